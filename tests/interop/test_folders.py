"""A release whose parts lie in folders, and whose tasks have words of their own."""

import json
import shutil

import numpy as np
import pytest
import tokenizers
from PIL import Image as Picture

from tests.interop import cases, family_decoders, run
from tests.interop.asked import ASKED, QUIET, WORDS, pixels, result
from tests.interop.showo_reference import BOI, EOI, MMU, T2I
from tests.interop.written import refused, same_weights, used
from tests.tokenizers import tokenizer_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data.document import Document, Text
from unijax.data.layout import Layout
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

SHOWO = cases.everything()["showo-loud"][1]
TEXT, END = SHOWO.published["llm_vocab_size"], 0  # its name is the first of the file


@pytest.fixture(scope="module")
def showo(tmp_path_factory):
  """(release, run) of a small Show-o with a tokenizer of bytes and two pairs."""
  folder = tmp_path_factory.mktemp("showo")
  release = run.write_release(SHOWO, folder / "release")
  tokenizer_json(release / "tokenizer.json", WORDS, TEXT, marks=("<|endoftext|>",))
  importing.import_run("showo", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def official(release, text: str) -> list[int]:
  return (
    tokenizers.Tokenizer.from_file(str(release / "tokenizer.json")).encode(text).ids
  )


def asked_row(release, codes) -> list[int]:
  said = official(release, f"USER: \n{ASKED} ASSISTANT:")
  return [TEXT + MMU, TEXT + BOI, *(TEXT + 10 + codes), TEXT + EOI, END, *said]


def test_rows_are_those_of_the_official_scripts(showo):
  release, out = showo
  loaded = load_run(out)
  b, picture = loaded.builder, prompts.picture(pixels(0, 8))
  parts = tuple(prompts.user([picture, Text(ASKED)], loaded.chat))
  laid = b.layout(Document(parts, id=0), open_end=True)
  codes = b.codes(picture)
  assert b.row([laid]).tokens_BT[: len(laid)].tolist() == asked_row(release, codes)
  assert laid.span[: 3 + len(codes)] == [0] * (3 + len(codes)) and laid.span[-1] == -1
  parts = tuple(prompts.user([Text("a dog")], loaded.chat))
  text, shadow = (
    b.layout(Document(parts, id=0), open_end=True, without_text=x, draws=True).tokens
    for x in (False, True)
  )
  assert text == [TEXT + T2I, END, *official(release, "a dog"), END]
  assert shadow == [TEXT + T2I, END, END]


def test_what_is_drawn_follows_the_official_commands(showo):
  sample = rundir.read_config(showo[1]).sample
  assert (sample.steps, sample.guidance, sample.confidence_decay) == (
    18,
    2.75,
    "product",
  )
  large = system.load("showo")
  sample = large.config(large.fields(large.sizes()["512"])).sample
  assert (sample.steps, sample.guidance, sample.max_text_tokens) == (50, 6.0, 100)


@pytest.mark.slow  # told by those of llava and qwen2_vl
def test_sampling_answers_about_a_picture_of_a_file(showo, tmp_path, capsys):
  """`unijax sample` writes what sampling by ids writes after the official row."""
  release, out = showo
  Picture.fromarray(pixels(0, 8)).save(tmp_path / "cat.png")
  told = [f"--workdir={out}", f"--image={tmp_path}/cat.png", f"--prompt={ASKED}"]
  assert not cli.main(["sample", *told])
  loaded = load_run(out, only_sample=True)
  b, layout = loaded.builder, Layout()
  row = asked_row(release, b.codes(prompts.picture(pixels(0, 8))))
  codes = np.array(row[2:-1])[: loaded.config.patches] - TEXT - 10
  layout.add_tokens(row[:2], 0.0)
  b.add_span(layout, codes, 0.0, first=0)
  layout.add_tokens(row[len(layout) :], 0.0)
  ids = family_decoders.written_after(loaded.config, loaded.params, [layout], b)
  text = b.tokenizer.decode([i for i in np.asarray(ids)[0] if i >= 0])
  assert len(text) > 8 and result(capsys)["texts"][0].startswith(text)


@pytest.mark.slow
def test_pictures_are_drawn_by_a_moved_run(showo, tmp_path, capsys):
  _, out = showo
  told = json.loads((out / "config.json").read_text())
  assert told["config"]["data"]["codec"] == "RUN/codec"
  asked = ["--begin=image", "--prompt=a dog", "--seed=3", f"--out={tmp_path}/dog.png"]
  assert not cli.main(["sample", f"--workdir={out}", *asked])
  drawn = result(capsys)["images"]
  assert np.asarray(Picture.open(drawn[0])).shape == (8, 8, 3)


def test_both_folders_are_written_back(showo, tmp_path):
  release, out = showo
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for place in ("", "magvitv2"):
    constant = {"quantize.power_vals"}
    same_weights(release / place, tmp_path / "out" / place, without=constant)
  content = json.loads((tmp_path / "out" / "config.json").read_text())
  assert SHOWO.published.items() <= content.items()
  about = json.loads((tmp_path / "out" / "magvitv2" / "config.json").read_text())
  assert about["bits"] == 6 and "bits" not in content
  again, mine = (
    importing.look("showo", tmp_path / "out").config,
    rundir.read_config(out),
  )
  assert (again.model, again.codec, again.sample) == (
    mine.model, mine.codec, mine.sample
  )  # fmt: skip
  kept = ("special", "marks", "chat", "pictures_first", "image_size", "vocab")
  for name in kept:
    assert getattr(again.data, name) == getattr(mine.data, name), name


def test_every_published_key_of_both_folders_is_used_once():
  theirs, whole, inside = used("showo", "256", "showo", "magvit-v2", "magvitv2/")
  constants = {"magvitv2/quantize.embedding", "magvitv2/quantize.power_vals"}
  assert {*inside.dropped} <= constants and not {*whole.consumed} & {*inside.consumed}
  taken = {*whole.consumed, *inside.consumed, *inside.dropped}
  assert taken == theirs and len(whole.consumed) == 437


def missing(folder):
  shutil.rmtree(folder / "magvitv2")


def cut(folder):
  path = folder / "magvitv2" / "model.safetensors"
  path.write_bytes(path.read_bytes()[:-100])


def other(folder):
  content = json.loads((folder / "config.json").read_text())
  (folder / "config.json").write_text(json.dumps({**content, "w_clip_vit": True}))


@pytest.mark.parametrize(
  ("damage", "error", "said"),
  [
    (missing, CheckpointError, "magvitv2: no such file or folder"),
    (cut, CheckpointError, "magvitv2/model.safetensors"),
    (other, ConfigError, "w_clip_vit=True"),
  ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_by_name(damage, error, said, showo, tmp_path):
  refused("showo", showo[0], damage, error, said, tmp_path)
