"""A release whose latents are read on two paths: its rows, its flags, its folder."""

import json

import pytest

from tests.interop import cases, family_showo2, run
from tests.interop.asked import ASKED, QUIET, official, pixels, reads_and_draws
from tests.interop.written import refused, same_weights, used
from tests.tokenizers import tokenizer_json
from unijax.checkpoint import rundir
from unijax.config import ConfigError
from unijax.data.document import Document, Text
from unijax.infer import prompts
from unijax.infer.load import load_run
from unijax.interop import exporting, importing, system

SHOWO2 = cases.everything()["showo2-loud"][1]
SIDE = 2 * family_showo2.STRIDE * family_showo2.SIDE
PATCHES = family_showo2.SIDE**2
MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")


@pytest.fixture(scope="module")
def showo2(tmp_path_factory):
  """(release, run) of a small Show-o2 whose tokenizer joins "?" and what ends a line."""
  folder = tmp_path_factory.mktemp("showo2")
  release = run.write_release(SHOWO2, folder / "release")
  content = json.loads((release / "config.json").read_text())
  (release / "vae" / "config.json").write_text(json.dumps(content.pop("vae")))
  (release / "config.json").write_text(json.dumps(content))
  tokenizer_json(release / "tokenizer.json", "?\n", 263, marks=MARKS)
  importing.import_run("showo2", release, folder / "first", say=QUIET)
  (folder / "first").rename(folder / "run")
  return release, folder / "run"


def test_rows_are_those_of_the_official_scripts(showo2):
  release, out = showo2
  loaded = load_run(out)
  b, picture = loaded.builder, prompts.picture(pixels(0, SIDE))
  parts = tuple(prompts.user([picture, Text(ASKED)], loaded.chat))
  layout = b.layout(Document(parts, id=0), open_end=True)
  pieces = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>",
    "\n<|im_start|>user\n", "<|vision_start|><|vision_end|>", ASKED,
    "\n<|im_start|>assistant\n",
  )  # fmt: skip
  apart = [i for piece in pieces for i in official(release, piece)]
  outside = [t for t, n in zip(layout.tokens, layout.span, strict=True) if n < 0]
  assert outside == apart != official(release, "".join(pieces))
  begin = layout.tokens.index(MARKS.index("<|vision_start|>"))
  inside = layout.span[begin + 1 :][: PATCHES + 1]
  assert inside == [0] * (PATCHES + 1) and layout.patch[begin + 1] == -1  # the time
  row = b.row([layout])
  assert row.feature_BT is None and row.patches_BTC.shape[1] == 64
  assert not row.noise_limit_BT.any()


def test_what_is_drawn_stands_behind_its_words_alone(showo2):
  release, out = showo2
  loaded = load_run(out)
  parts = tuple(prompts.user([Text("a dog")], loaded.chat))
  text, shadow = (
    loaded.builder.layout(
      Document(parts, id=0), open_end=True, without_text=x, draws=True
    ).tokens
    for x in (False, True)
  )
  assert text == official(release, "<|im_start|>a dog")
  assert shadow == official(release, "<|im_start|>")


def test_it_samples_as_the_official_scripts_do(showo2):
  config = rundir.read_config(showo2[1])
  s, d = config.sample, config.diffusion
  assert (s.sampler, s.steps, s.guidance, s.schedule_shift) == ("euler", 49, 5.0, 3.0)
  assert (s.max_text_tokens, s.temperature, s.clip_x0) == (300, 0.0, 0.0)
  assert (d.path, d.predict, d.time_law) == (
    "rectified_flow",
    "velocity",
    "logit_normal",
  )
  assert (config.data.fit, config.data.resample) == ("resize", "bicubic")
  large = system.load("showo2")
  whole = large.config(large.fields(large.sizes()["7B"]))
  assert (whole.data.image_size, whole.patches, whole.vision.heads) == (432, 729, 16)
  assert abs(whole.diffusion.time_shift - 1.7865) < 1e-3
  assert whole.denoiser.heads // whole.denoiser.kv_heads == 4


def test_both_folders_are_written_back(showo2, tmp_path):
  release, out = showo2
  exporting.export_run(str(out), tmp_path / "out", say=QUIET)
  for place in ("", "vae"):
    same_weights(release / place, tmp_path / "out" / place)
  again = importing.look("showo2", tmp_path / "out").config
  mine = rundir.read_config(out)
  same = ("model", "vision", "denoiser", "codec", "sample", "diffusion")
  for name in same:
    assert getattr(again, name) == getattr(mine, name), name
  for name in ("special", "marks", "chat", "image_size", "vocab"):
    assert getattr(again.data, name) == getattr(mine.data, name), name


def test_a_tied_head_that_is_written_too_is_left_out(tmp_path):
  """As in the files of 1.5B, whose decoder has one table."""
  release = run.write_release(SHOWO2, tmp_path / "release")
  content = json.loads((release / "config.json").read_text())
  (release / "config.json").write_text(
    json.dumps({**content, "tie_word_embeddings": True})
  )
  found = importing.look("showo2", release)
  assert found.config.model.tie_embeddings and "text_head/kernel" not in found.ours
  assert "showo.lm_head.weight" in found.dropped


def test_what_cannot_be_done_is_refused_by_name(showo2, tmp_path):
  def damage(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
      json.dumps({**content, "add_time_embeds": False})
    )

  refused("showo2", showo2[0], damage, ConfigError, "add_time_embeds", tmp_path)


@pytest.mark.parametrize("layout", ["wan-vae", "wan-vae-original"])
def test_every_published_key_of_both_folders_is_used_once(layout):
  theirs, whole, inside = used("showo2", "1.5B", "showo2-1.5b", layout, "vae/")
  assert len(theirs) == 910 + 194
  assert set(whole.consumed) | set(inside.consumed) | {"showo.lm_head.weight"} == theirs


@pytest.mark.slow
def test_a_moved_run_reads_and_draws(showo2, tmp_path, capsys):
  reads_and_draws(showo2[1], SIDE, tmp_path, capsys)
