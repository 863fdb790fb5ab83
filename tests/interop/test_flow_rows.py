"""A release whose timestep stands where BOI was: its rows, its flags, its folder."""

import json

import pytest

from tests.interop import cases, family_janusflow, run
from tests.interop.asked import ASKED, QUIET, WORDS, official, pixels, reads_and_draws
from tests.interop.written import same_weights
from tests.tokenizers import llama_json
from unijax.checkpoint import rundir
from unijax.data.document import Document, Text
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing
from unijax.types import FEATURE_BEGIN

FLOW = cases.everything()["janusflow-loud"][1]
SIDE = 4 * family_janusflow.SIDE
MARKED = ("<pad>", "<s>", "</s>", "<begin_of_image>", "<end_of_image>")


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
  """(release, run) of a small JanusFlow with a tokenizer of pieces."""
  folder = tmp_path_factory.mktemp("flow")
  release = run.write_release(FLOW, folder / "release")
  ids = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 512}
  text = {**FLOW.published["language_config"], **ids}
  content = {**FLOW.published, "language_config": text}
  (release / "vae" / "config.json").write_text(json.dumps(content.pop("vae")))
  (release / "config.json").write_text(json.dumps(content))
  llama_json(release / "tokenizer.json", WORDS, names=MARKED)
  (release / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
  importing.import_run("janusflow", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def test_rows_are_those_of_the_official_scripts(flow):
  from configs.released.janus import SYSTEM

  release, out = flow
  b = load_run(out).builder
  parts = prompts.user([prompts.picture(pixels(0, SIDE)), Text(ASKED)], chat=True)
  layout = b.layout(Document(tuple(parts), id=0), open_end=True)
  framed = f"User: <begin_of_image><end_of_image>\n{ASKED}\n\nAssistant:"
  outside = [t for t, n in zip(layout.tokens, layout.span, strict=True) if n < 0]
  assert outside == official(release, SYSTEM + framed)
  begin = layout.tokens.index(MARKED.index("<begin_of_image>"))
  assert layout.feature[begin] == FEATURE_BEGIN and layout.feature[begin + 1] == 0
  row = b.row([layout])
  assert row.feature_BT[begin] == FEATURE_BEGIN and (row.feature_BT >= 0).sum() == 16


def test_what_is_drawn_stands_behind_a_row_without_text(flow):
  release, out = flow
  b = load_run(out).builder
  parts = tuple(prompts.user([Text("a dog")], chat=True))
  text, shadow = (
    b.layout(Document(parts, id=0), open_end=True, without_text=x, draws=True)
    for x in (False, True)
  )
  assert text.tokens == official(release, "User: a dog\n\nAssistant:")
  assert (shadow.tokens, shadow.next_position) == ([1], text.next_position)
  b.give(text, [b.vocabulary.special.boi])
  boi, count = len(text) - 1, len(text)
  b.add_span(text, None, 0.0)
  assert text.span[boi - 1 :] == [-1, *[0] * 17, -1], "BOI is of the image, EOI is not"
  assert [x[0] for x in text.position] == list(range(count + 17))


def test_it_samples_as_the_official_scripts_do(flow):
  config = rundir.read_config(flow[1])
  s, d = config.sample, config.diffusion
  assert (s.sampler, s.steps, s.guidance, s.clip_x0) == ("euler", 30, 2.0, 0.0)
  assert (d.path, d.predict, d.time_shift) == ("rectified_flow", "velocity", 1.0)
  assert (config.data.fit, config.codec.scale) == ("pad", 0.13025)


def test_both_files_are_written_back(flow, tmp_path):
  release, out = flow
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for place in ("", "vae"):
    same_weights(release / place, tmp_path / "out" / place)
  kept = json.loads((tmp_path / "out" / "vae" / "config.json").read_text())
  assert kept["scaling_factor"] == 0.13025
  again = importing.look("janusflow", tmp_path / "out").config
  mine = rundir.read_config(out)
  assert (again.model, again.vision) == (mine.model, mine.vision)


@pytest.mark.slow
def test_a_moved_run_reads_and_draws(flow, tmp_path, capsys):
  reads_and_draws(flow[1], SIDE, tmp_path, capsys)
