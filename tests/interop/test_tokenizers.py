"""Tokenizers of pictures of released systems, in use as codecs, and what is refused."""

import math

import numpy as np
import pytest

from tests.interop import cases, codes, keys, run
from tests.interop.written import same_weights
from unijax import codecs
from unijax.checkpoint import safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.config import ConfigError
from unijax.config_file import load as load_config
from unijax.interop import exporting, files, importing, matching, system
from unijax.train.codec_task import CodecTask

CASES = cases.everything()
USES = {  # case -> config that trains on its codes
  "janus-vq-loud": "janus", "chameleon-vq-loud": "chameleon", "magvit-v2-loud": "showo",
  "emu3-vq-loud": "emu3",
}  # fmt: skip
quiet = lambda _: None  # noqa: E731


FEW = [  # the first is enough by default: they differ in keys, which are tested
  name if not i else pytest.param(name, marks=pytest.mark.slow)
  for i, name in enumerate(USES)
]


@pytest.fixture(scope="module", params=FEW)
def imported(request, tmp_path_factory):
  """(case, path of the run that was imported)."""
  place, case = tmp_path_factory.mktemp("run"), CASES[request.param][1]
  folder = run.write_release(case, place / "release")
  importing.import_run(case.system, folder, place / "run", say=quiet)
  return case, place / "run"


def test_an_imported_tokenizer_is_a_codec_for_others(imported):
  case, place = imported
  codec, expected = codecs.open_codec(str(place)), cases.read_expected(case.name)
  given = case.inputs()
  drawn = np.clip(np.rint((expected.outputs["pixels"] + 1.0) * 127.5), 0, 255)
  assert abs(codec.from_codes(given["codes"]).astype(int) - drawn).max() <= 1
  pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
  found = codec.codes(pixels)
  assert found.shape == (2, 3, 4) and len(np.unique(found)) > 1
  assert codecs.sizes(str(place)).codebook == codec.codebook > found.max()


def test_systems_that_write_codes_take_it(imported):
  case, place = imported
  c = load_config([f"--config=configs/{USES[case.name]}.py:tiny"])
  before = codecs.sizes(c.data.codec).stride
  changed = load_config(
    [
      f"--config=configs/{USES[case.name]}.py:tiny", f"--config.data.codec={place}",
      f"--config.data.image_size={c.data.image_size * 2 // before}",
    ]
  )  # fmt: skip
  assert changed.codebook == codecs.open_codec(str(place)).codebook
  assert changed.grid == c.grid


def test_what_is_exported_is_what_was_imported(imported, tmp_path):
  case, place = imported
  exporting.export_run(str(place), tmp_path / "out", say=quiet)
  run.write_release(case, tmp_path / "in")
  left = {"quantize.power_vals"}  # a constant
  same_weights(tmp_path / "in", tmp_path / "out", without=left)


def test_a_layout_that_cannot_say_it_is_refused(imported, tmp_path):
  case, place = imported
  other = "janus_vq" if case.system == "chameleon_vq" else "chameleon_vq"
  lost = {"magvit_v2": "codec.bottleneck", "emu3_vq": "codec.time_stride"}
  wanted = lost.get(case.system, "codec.cosine")
  with pytest.raises(ConfigError, match=wanted):
    exporting.export_run(str(place), tmp_path / "out", other, say=quiet)
  assert not (tmp_path / "out").exists()


def test_the_tokenizer_of_a_whole_chameleon_has_no_decoder():
  theirs, counts = keys.read("chameleon-7b")
  chosen = system.load("chameleon_vq")
  config = chosen.config(chosen.fields(chosen.sizes()["8192"], theirs))
  ours = system.leaves(config)
  report = matching.match(chosen.table(config), ours, theirs).report
  assert report.fits and not config.codec.draws
  assert len(report.consumed) + len(report.dropped) == counts["tensors"]
  assert {x for x in ours if "decoder" in x} == {
    "codec/decoder/project/conv/kernel", "codec/decoder/project/conv/bias",
  }  # fmt: skip
  assert sum(math.prod(x.shape) for x in ours.values()) == 29_423_616
  with pytest.raises(ConfigError, match="codec.draws: False has no decoder"):
    CodecTask(config, 0).loss({}, None, None, 1)


@pytest.mark.parametrize(
  ("name", "size", "field", "value"),
  [
    ("janus_vq", "16384", "double_latent", True),
    ("janus_vq", "16384", "vq_config.in_channels", 4),
    ("janus_vq", "16384", "vq_config.embed_dim", 16),
    ("janus_vq", "16384", "gen_vision_config.cls", "VQ-8"),
    ("chameleon_vq", "8192", "attn_resolutions", [32]),
    ("magvit_v2", "8192", "out_channels", 1),
    ("magvit_v2", "8192", "widths", [128, 200]),
  ],
)
def test_what_cannot_be_done_is_refused_by_name(name, size, field, value):
  chosen = system.load(name)
  fields = chosen.fields({**chosen.sizes()[size], field: value})
  with pytest.raises(ConfigError, match=field):
    chosen.config(fields)


@pytest.mark.parametrize("right", [True, False])
def test_the_signs_of_codes_are_checked_and_left_out(right, tmp_path):
  _, case = CASES["magvit-v2-loud"]
  folder = run.write_release(case, tmp_path)
  arrays = {n: e.read().copy() for n, e in files.open_weights(folder).items()}
  bits = np.array([[int(b) for b in f"{n:06b}"] for n in range(64)])
  arrays["quantize.embedding"] = (2.0 * bits - 1.0).astype(np.float32)
  arrays["quantize.embedding"] *= 1.0 if right else -1.0
  forms = {n: (x.shape, x.dtype.name) for n, x in arrays.items()}
  safetensors.write(folder / "model.safetensors", forms, arrays.items, {})
  if right:
    found = importing.look(case.system, folder)
    assert "quantize.embedding" in found.match.report.dropped
  else:
    with pytest.raises(CheckpointError, match="quantize.embedding holds other numbers"):
      importing.look(case.system, folder)


def test_ties_are_counted():
  book = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
  vectors = np.array([[1.0, 1.0], [1.0, 0.9], [-1.0, 0.2]])
  assert codes.ties(vectors, book) == [1]
  assert codes.ties_of_signs(np.array([1.0, -0.3, 0.0, 1e-6])) == [2]
