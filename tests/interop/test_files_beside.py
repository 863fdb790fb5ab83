"""A release whose parts lie in files of one folder, and that reads what it draws from."""

import json

import numpy as np
import pytest
import tokenizers
from PIL import Image as Picture

from tests.interop import cases, family_decoders, run
from tests.interop.asked import ASKED, QUIET, WORDS, pixels, result
from tests.interop.written import refused, same_weights, used
from tests.tokenizers import tokenizer_json
from unijax import cli
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.data.document import Document, Text
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

BAGEL = cases.everything()["bagel-loud"][1]
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
         "<|vision_end|>")  # fmt: skip
START, END, BOI, EOI = 1, 2, 3, 4
SIDE = BAGEL.published["image_size"]
CONFIGS = ("llm_config", "vit_config")


@pytest.fixture(scope="module")
def bagel(tmp_path_factory):
  """(release, run) of a small BAGEL with its configs in files and a tokenizer."""
  folder = tmp_path_factory.mktemp("bagel")
  release = run.write_release(BAGEL, folder / "release")
  content = json.loads((release / "config.json").read_text())
  for name in CONFIGS:
    (release / f"{name}.json").write_text(json.dumps(content.pop(name)))
  (release / "config.json").write_text(json.dumps(content))
  vocab = BAGEL.published["llm_config"]["vocab_size"]
  tokenizer_json(release / "tokenizer.json", WORDS, vocab, marks=MARKS)
  importing.import_run("bagel", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def official(release, text: str) -> list[int]:
  inner = tokenizers.Tokenizer.from_file(str(release / "tokenizer.json"))
  return [START, *inner.encode(text).ids, END]


def shown(layout) -> list:
  """Ids of a layout, in which an image is (its positions, whether of latents)."""
  found, spans = [], list(zip(layout.span, [-1, *layout.span], strict=False))
  for t, (span, before) in enumerate(spans):
    if span < 0:
      found.append(layout.tokens[t])
    elif span != before:
      inside = [i for i, s in enumerate(layout.span) if s == span]
      assert (layout.tokens[inside[0]], layout.tokens[inside[-1]]) == (BOI, EOI)
      assert len({layout.position[i] for i in inside}) == 1
      found.append((len(inside), layout.patch[inside[1]] == 0))
  return found


def test_rows_are_those_of_the_official_code(bagel):
  release, out = bagel
  loaded = load_run(out)
  picture, chat = prompts.picture(pixels(0, SIDE)), loaded.chat
  parts = tuple(prompts.user([picture, Text(ASKED)], chat))
  lay = lambda p=parts, **how: loaded.builder.layout(
    Document(p, id=0), open_end=True, **how
  )
  said, seen, latents = official(release, ASKED), (27, False), (11, True)
  assert shown(lay()) == [seen, *said, START]
  draws = {"draws": True, "without_text": False}
  assert shown(lay(**draws)) == [latents, seen, *said]
  assert shown(lay(**draws, without_pictures=True)) == said
  assert shown(lay(draws=True, without_text=True)) == [latents, seen]
  words = tuple(prompts.user([Text("a dog")], chat))
  assert shown(lay(words, **draws)) == official(release, "a dog")
  assert len(lay(words, draws=True, without_text=True)) == 0
  assert lay().next_position == 1 + len(said) + 1


def test_what_is_drawn_follows_the_official_defaults(bagel):
  sample, large = rundir.read_config(bagel[1]).sample, system.load("bagel")
  found = large.config(large.fields(large.sizes()["7B-MoT"]))
  assert found.sample == sample
  assert (sample.steps, sample.schedule_shift, sample.sampler) == (49, 3.0, "euler")
  assert (sample.guidance, sample.guidance_low, sample.guidance_image) == (4, 0.4, 1)
  assert (sample.guidance_renorm, sample.guidance_renorm_min) == ("image", 0.0)
  assert (found.data.image_size, found.seen_size, found.features) == (1024, 980, 4900)
  assert found.grid == 64 and not found.sample.stops and sample.temperature == 0


@pytest.fixture
def cat(tmp_path):
  Picture.fromarray(pixels(0, SIDE)).save(tmp_path / "cat.png")
  return f"--image={tmp_path}/cat.png"


@pytest.mark.slow  # told by those of llava and qwen2_vl
def test_sampling_answers_about_a_picture_of_a_file(bagel, cat, capsys):
  """`unijax sample` writes what sampling by ids writes after the official row."""
  release, out = bagel
  assert not cli.main(["sample", f"--workdir={out}", cat, f"--prompt={ASKED}"])
  loaded = load_run(out, only_sample=True)
  b, layout = loaded.builder, None
  parts = (prompts.picture(pixels(0, SIDE)),)
  layout = b.layout(Document(parts, id=0), open_end=True)
  layout.add_tokens([*official(release, ASKED), START], 0.0)
  ids = family_decoders.written_after(loaded.config, loaded.params, [layout], b)
  text = b.tokenizer.decode([i for i in np.asarray(ids)[0] if i >= 0])
  assert len(text) > 8 and result(capsys)["texts"][0].startswith(text)


@pytest.mark.slow
def test_pictures_are_drawn_and_changed_by_a_moved_run(bagel, cat, tmp_path, capsys):
  """Under one guidance, and under two, whose flags are those of the docstring."""
  _, out = bagel
  told = json.loads((out / "config.json").read_text())
  assert told["config"]["data"]["codec"] == "RUN/codec"
  asked = ["sample", f"--workdir={out}", "--begin=image", "--prompt=a dog", "--steps=3"]
  edits = [cat, "--guidance-renorm=text_patch", "--guidance-low=0"]
  made = []
  for more in ([], edits, [*edits, "--guidance-image=2"]):
    assert not cli.main([*asked, *more, f"--out={tmp_path}/{len(made)}.png"])
    made.append(np.asarray(Picture.open(result(capsys)["images"][0])).astype(int))
  assert all(x.shape == (SIDE, SIDE, 3) for x in made)
  assert all(abs(x - y).max() > 1 for x, y in zip(made, made[1:], strict=False))


def test_both_files_are_written_back(bagel, tmp_path):
  release, out = bagel
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for file in ("ema.safetensors", "ae.safetensors"):
    same_weights(release / file, tmp_path / "out" / file)
  for name in CONFIGS:
    told, kept = (
      json.loads((place / f"{name}.json").read_text())
      for place in (release, tmp_path / "out")
    )
    assert {n: kept[n] for n in told} == told
  again, mine = (
    importing.look("bagel", tmp_path / "out").config,
    rundir.read_config(out),
  )
  assert (again.model, again.codec, again.sample, again.vision) == (
    mine.model, mine.codec, mine.sample, mine.vision
  )  # fmt: skip
  for name in ("special", "marks", "chat", "without_text", "image_size", "vocab"):
    assert getattr(again.data, name) == getattr(mine.data, name), name


def test_every_published_key_of_both_files_is_used_once():
  listed = "bagel", "flux-vae-original", "ae/"
  theirs, whole, inside = used("bagel", "7B-MoT", *listed)
  assert not inside.dropped
  assert (len(whole.consumed), len(inside.consumed)) == (1223, 244)
  assert {*whole.consumed} | {*inside.consumed} == theirs


def missing(folder):
  (folder / "ae.safetensors").unlink()


def cut(folder):
  path = folder / "ae.safetensors"
  path.write_bytes(path.read_bytes()[:-100])


def other(folder):
  path = folder / "llm_config.json"
  content = json.loads(path.read_text())
  path.write_text(json.dumps({**content, "hidden_act": "relu"}))


@pytest.mark.parametrize(
  ("damage", "error", "said"),
  [
    (missing, CheckpointError, "ae.safetensors: no such file"),
    (cut, CheckpointError, "ae.safetensors"),
    (other, ConfigError, "llm_config.hidden_act='relu'"),
  ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_by_name(damage, error, said, bagel, tmp_path):
  refused("bagel", bagel[0], damage, error, said, tmp_path)
