"""A system with a part that a run keeps apart: prompts, pictures, export, damage."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from tests.interop import cases, run
from tests.interop.asked import ASKED, QUIET, WORDS, official, pixels, result
from tests.interop.written import same_weights
from tests.tokenizers import llama_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.data.document import Document, Text
from unijax.infer import prompts
from unijax.infer.generate import Prompt
from unijax.infer.load import load_run
from unijax.interop import exporting, files, importing

JANUS = cases.everything()["janus-loud"][1]
MARKED = (
  "<pad>", "<s>", "</s>", "<begin_of_image>", "<end_of_image>", "<|User|>",
  "<|Assistant|>",
)  # fmt: skip
SEEN = "<|User|>: <image>\nWhat is red?\n\n<|Assistant|>:"


@pytest.fixture(scope="module")
def janus(tmp_path_factory):
  """(release, run) of a small Janus whose processor has a system text."""
  folder = tmp_path_factory.mktemp("janus")
  release = run.write_release(JANUS, folder / "release")
  text = {**JANUS.published["text_config"], "max_position_embeddings": 512}
  content = {**JANUS.published, "text_config": text}
  (release / "config.json").write_text(json.dumps(content))
  llama_json(release / "tokenizer.json", WORDS, names=MARKED)
  settings = {"eos_token": "</s>", "chat_template": "{{ x }}<|User|>: <|Assistant|>:"}
  (release / "tokenizer_config.json").write_text(json.dumps(settings))
  (release / "processor_config.json").write_text(
    json.dumps({"use_default_system_prompt": True})
  )
  importing.import_run("janus", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def test_a_run_with_a_codec_of_its_own_may_be_moved(janus):
  release, out = janus
  config = rundir.read_config(out)
  assert config.data.codec == str(out / "codec") and config.codebook == 48
  told = json.loads((out / "config.json").read_text())
  assert told["config"]["data"]["codec"] == "RUN/codec"
  names = files.open_weights(release)
  assert told["imported"]["dropped"] == []
  codec = {n for n in names if n.startswith("model.vqmodel.")}
  assert told["imported"]["tensors"] == len(names) - len(codec) and codec
  special = dict(config.data.special)
  assert [special[n] for n in ("bos", "eos", "boi", "eoi")] == [1, 2, 3, 4]


def test_prompts_are_those_of_the_processor(janus):
  from configs.released.janus import SYSTEM

  release, out = janus
  b = load_run(out).builder
  parts = prompts.user([prompts.picture(pixels(0, 16)), Text(ASKED)], chat=True)
  layout = b.layout(Document(tuple(parts), id=0), open_end=True)
  framed = SEEN.replace("<image>", "<begin_of_image><end_of_image>")
  wanted = official(release, SYSTEM + framed)
  assert [t for t, n in zip(layout.tokens, layout.span, strict=True) if n < 0] == wanted
  parts = prompts.user([Text("a dog")], chat=True)
  text, shadow = (
    b.layout(Document(tuple(parts), id=0), open_end=True, without_text=x, draws=True)
    for x in (False, True)
  )
  assert text.tokens == official(release, "<|User|>: a dog\n\n<|Assistant|>:")
  pad = b.vocabulary.special.pad
  assert shadow.tokens[1:] == [pad] * (len(text) - 1)


def test_pictures_are_drawn_and_read_by_a_moved_run(janus, tmp_path, capsys):
  _, out = janus
  code = cli.main(
    ["sample", f"--workdir={out}", "--begin=image", "--prompt=a dog", "--seed=3",
     f"--out={tmp_path}/dog.png"]
  )  # fmt: skip
  done = result(capsys)
  assert not code and len(done["images"]) >= 1
  assert np.asarray(Picture.open(done["images"][0])).shape == (16, 16, 3)


def test_what_is_written_after_a_text_is_guided_by_as_much_padding(janus):
  """An image that the model begins by itself has a shadow of the same places."""
  from unijax.infer.batch import RowBatch

  loaded = load_run(janus[1], only_sample=True)
  generator = loaded.generator(rows=1)
  batch = RowBatch(generator, [Prompt([Text("a red dog")], max_text_tokens=4)], 0)
  special = batch.special
  (row,) = batch.rows
  for branch in (0, 1):
    batch._commit(branch, [row.tracks[branch]])
  written = [*loaded.builder.tokenizer.encode("A"), special.boi]
  batch._take_tokens(row, written)
  batch._begin_images([True], branches=(1,))
  text, shadow = row.tracks
  assert shadow.tokens[-1] == special.boi and shadow.position == text.position
  assert int(batch.caches[1].length_B[0]) == len(text)


def test_a_whole_system_is_exported_with_its_part(janus, tmp_path):
  release, out = janus
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  same_weights(release, tmp_path / "out")
  content = json.loads((tmp_path / "out" / "config.json").read_text())
  for part in ("vision_config", "vq_config"):
    assert JANUS.published[part].items() <= content[part].items()
  again = importing.look("janus", tmp_path / "out").config
  mine = rundir.read_config(out)
  assert (again.model, again.vision, again.codec) == (
    mine.model,
    mine.vision,
    mine.codec,
  )
  assert again.data.special == mine.data.special and again.data.chat == mine.data.chat


def test_a_system_without_one_of_its_parts_is_refused(janus, tmp_path):
  expected = cases.read_expected(JANUS.name)
  folder = run.write_release(JANUS, tmp_path / "release")
  odd = lambda name, x: (name.replace("vqmodel.quant_conv", "vqmodel.odd"), x)
  run.write_weights(folder / "model.safetensors", JANUS, expected, odd)
  with pytest.raises(CheckpointError, match="(?s)not a whole janus_vq .*quant_conv"):
    importing.import_run("janus", folder, tmp_path / "run", say=QUIET)
  assert not (tmp_path / "run").exists()


TUNE = """
from unijax.checkpoint import rundir


def get_config():
  c = rundir.config_dict("{run}")
  options = dict(num_documents=32, max_objects=1, grid=2)
  c.data.sources.scenes = dict(kind="scenes", weight=1.0, options=options)
  return c
"""


SHOWN = {"num_vq_tokens": 256, "max_position_embeddings": 512}  # pictures of 32 pixels


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "fields"), [("janus-draw", {}), ("showo-loud", SHOWN)]
)
def test_an_imported_system_is_tuned(name, fields, tmp_path):
  """Images and text are trained, and what was trained is exported with the codec."""
  case, out = cases.everything()[name][1], tmp_path / "run"
  release = run.write_release(case, tmp_path / "release", cases.Wrong(fields))
  importing.import_run(case.system, release, out, say=QUIET)
  workdir = tmp_path / "tuned"
  (tmp_path / "tune.py").write_text(TUNE.format(run=out))
  few = ["train.steps=2", "train.batch_size=1", "train.eval_every=100",
         "train.sample_every=100", "data.seq_len=640", "sample.steps=2",
         "sample.max_text_tokens=4"]  # fmt: skip
  cli.main(["train", f"--config={tmp_path}/tune.py", f"--workdir={workdir}",
            f"--init-from={out}", *(f"--config.{x}" for x in few)])  # fmt: skip
  assert rundir.read_config(workdir).data.codec == str(out / "codec")
  exporting.export_run(str(workdir), tmp_path / "out", case.system, say=QUIET)
  found = importing.look(case.system, tmp_path / "out")
  assert found.match.report.fits and found.parts["codec"].match.report.fits
