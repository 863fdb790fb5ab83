"""Laws of trained codecs in use: sizes, round trips, damage, and latents kept beside."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests import small
from unijax import codecs
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.codecs import artefact
from unijax.codecs.model import Autoencoder
from unijax.config import ConfigError
from unijax.data import latents, prepare, records
from unijax.data.document import DataError
from unijax.data.sources import make_source
from unijax.train import codec_export

KINDS = ("kl", "vq", "fsq", "lfq", "rvq")
PIXELS = np.stack([small.image(i, size=32).pixels() for i in range(5)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Runs with fresh weights, by bottleneck."""
  made = {}
  for kind in KINDS:
    c, run = small.codec(kind), tmp_path_factory.mktemp(kind)
    keys = jax.random.split(jax.random.key(0), 1)
    init = jax.jit(Autoencoder(c.codec).init, compiler_options=small.QUICK)
    params = jax.device_get(init(keys[0], np.zeros((1, 32, 32, 3)), keys)["params"])
    codec_export.write(
      run, c, jax.tree.map(_unboxed, params, is_leaf=_boxed), PIXELS, 7
    )
    made[kind] = str(run)
  return made


def _boxed(x):
  return hasattr(x, "unbox")


def _unboxed(x):
  return x.unbox() if _boxed(x) else x


@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_is_read_back_without_its_trainer(runs, kind):
  codec, sizes = codecs.open_codec(runs[kind]), codecs.sizes(runs[kind])
  assert sizes == (2, 3, {"kl": 0, "vq": 8, "fsq": 60, "lfq": 8, "rvq": 64}[kind], True)
  assert sizes == (codec.stride, codec.channels, codec.codebook, codec.draws)
  found = codec.encode(PIXELS)
  assert found.shape == (5, 16, 16, 3) and found.dtype == np.float32
  assert abs(found.mean()) < 1e-3 and abs(found.std() - 1) < 1e-3  # shift and scale
  np.testing.assert_array_equal(
    codec.encode(PIXELS[3]), found[3]
  )  # alone as in a batch
  decoded = codec.decode(found)
  assert decoded.shape == PIXELS.shape and decoded.dtype == np.uint8
  if kind != "kl":
    codes = codec.codes(PIXELS)
    assert codes.shape == (5, 16, 16) and codes.dtype == np.int32
    assert 0 <= codes.min() and codes.max() < codec.codebook
    close = np.abs(codec.from_codes(codes).astype(int) - decoded)
    assert close.max() <= 1  # the latents went through shift and scale and back
    with pytest.raises(ValueError, match="the codebook has"):
      codec.from_codes(np.array([[0, codec.codebook]]))


@pytest.mark.parametrize("file", [artefact.ABOUT, artefact.WEIGHTS])
def test_a_changed_artefact_is_refused(runs, tmp_path, file):
  run = tmp_path / "run"
  shutil.copytree(runs["fsq"], run)
  path = run / "codec" / file
  content = bytearray(path.read_bytes())
  at = content.index(b'"scale": ') + 9 if file == artefact.ABOUT else len(content) - 5
  content[at] ^= 1
  path.write_bytes(content)
  with pytest.raises(ConfigError, match=rf"{file} has changed"):
    codecs.open_codec(str(run))
  path.unlink()
  with pytest.raises(ConfigError, match="no trained codec|No such file"):
    codecs.open_codec(str(run))


def test_a_config_without_its_codec_is_refused(tmp_path):
  with pytest.raises(ConfigError, match="no trained codec.*--config=configs/codecs"):
    small.config(data__codec=str(tmp_path / "none"))


def test_a_codec_that_is_yet_to_be_named_has_sizes_alone():
  assert codecs.sizes("codes:48:4") == (4, 0, 48, True)
  assert codecs.identity("codes:48:4") == {"name": "codes:48:4"}
  assert codecs.only_size("codes:48:4") == 0
  with pytest.raises(ConfigError, match="'codes:48:4' says how many there are"):
    codecs.open_codec("codes:48:4")
  for name in ("codes:0:4", "codes:48", "codes:48:4:1", "codes:x:4"):
    with pytest.raises(ConfigError, match=f"unknown '{name}'"):
      codecs.sizes(name)


def test_latents_need_room_when_they_are_drawn(runs):
  with pytest.raises(ConfigError, match="sample.clip_x0: 1.0 is a bound for pixels"):
    small.scenes(data__codec=runs["kl"], data__patch_size=8, sample__clip_x0=1.0)


def test_a_run_remembers_its_codec(runs, tmp_path):
  c = small.scenes(data__codec=runs["kl"], data__patch_size=8)
  assert (c.grid, c.patch_channels) == (2, 8 * 8 * 3)
  identity = codecs.identity(c.data.codec)
  rundir.check_codec(tmp_path, identity)  # nothing there yet
  rundir.write_config(tmp_path, c, {"codec": identity})
  rundir.check_codec(tmp_path, identity)
  with pytest.raises(CheckpointError, match="another codec") as error:
    rundir.check_codec(tmp_path, codecs.identity(runs["vq"]))
  for name in ("bottleneck: 'kl' -> 'vq'", "codebook: 0 -> 8", "scale: ", "digest: "):
    assert name in str(error.value)


def test_kept_latents_and_codes_equal_live_ones(runs, tmp_path):
  """Bit for bit, in the rows that training reads."""
  c = small.scenes(data__codec=runs["vq"], data__patch_size=8)
  live = make_source(c.data.sources[0], 32, num_documents=3)
  prepare.prepare(live, str(tmp_path / "kept"), codec=runs["vq"])
  kept = records.RecordsSource(
    records.RecordsOptions(str(tmp_path / "kept"), split="all")
  )
  builder, seen = small.builder(c), 0
  for a, b in zip(
    map(live.__getitem__, range(3)), map(kept.__getitem__, range(3)), strict=True
  ):
    one, other = (builder.row([builder.layout(d, key=1)]) for d in (a, b))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one.patches_BTC.any()
    for x, y in zip(a.parts, b.parts, strict=True):
      if hasattr(x, "pixels"):
        seen += 1
        live_codes = builder.codec.codes(x.pixels())
        # Only what was kept can be read here: the picture itself cannot.
        y = dataclasses.replace(y, load=lambda: 1 / 0)
        got = latents.codes(y, builder.codec, builder.codec_identity)
        np.testing.assert_array_equal(got, live_codes)
  assert seen >= 3
  other = small.builder(small.scenes(data__codec=runs["kl"], data__patch_size=8))
  with pytest.raises(
    DataError, match="made by another codec.*bottleneck 'vq', not 'kl'"
  ):
    other.row([other.layout(kept[0])])
  info = json.loads((tmp_path / "kept" / "info.json").read_text())
  assert info["source"]["codec"] == codecs.identity(runs["vq"])


def test_an_artefact_of_another_format_is_refused(tmp_path):
  about = artefact.About({}, 1, 1, 0, 8, 0.0, 1.0, 1, "")
  (tmp_path / artefact.FOLDER).mkdir()
  for number in (artefact.FORMAT, artefact.FORMAT + 1):
    one = dataclasses.replace(about, format=number)
    artefact.write_about(tmp_path / artefact.FOLDER, one)
    if number == artefact.FORMAT:
      assert artefact.read(str(tmp_path)) == one
  with pytest.raises(ConfigError, match="has changed"):
    artefact.read(str(tmp_path))
