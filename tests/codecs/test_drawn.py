"""Laws of a codec of features in use: what it encodes, what it draws, what it refuses."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from tests import dits, small
from unijax import codecs
from unijax.codecs import artefact
from unijax.config import ConfigError
from unijax.data import prepare, records
from unijax.data.document import DataError
from unijax.data.sources import make_source
from unijax.train import codec_export, decoding
from unijax.train.encoders import open_encoder, write_encoder

PIXELS = np.stack([small.image(i, size=32).pixels() for i in range(3)])
VISION = dict(
  vision__depth=1, vision__width=16, vision__heads=2, vision__mlp_width=32,
  vision__registers=1,
)  # fmt: skip


def config(**knobs):
  """A decoder of four features, each of four patches, in training on scenes."""
  c = dict(
    train__task="decoder", train__batch_size=4, codec__pooling=2,
    optim__freeze=("codec/encoder/*",), sample__steps=3, sample__clip_x0=1.0,
    data__caption_dropout=0.25, sample__sampler="ddpm", sample__guidance=2.0,
  )  # fmt: skip
  return small.scenes(**{**dits.SIZES, **VISION, **c, **knobs})


def lively(shapes, seed: int):
  """Weights none of which is zero."""
  return jax.device_get(dits.random_like(shapes, seed))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """An encoder with weights nobody else has, and two codecs, one of them made of it."""
  folder = tmp_path_factory.mktemp("drawn")
  c = config()
  for name, seed in (("encoder", 1), ("codec", 2), ("other", 3)):
    (folder / name).mkdir()
    if name == "encoder":
      shapes = jax.eval_shape(small.functions(c).init).params["codec"]["encoder"]
      aligned = small.scenes(train__task="alignment", **VISION)
      write_encoder(folder / name, aligned, {"vision": lively(shapes, seed)}, 7)
      continue
    if name == "codec":
      c = config(codec__encoder=str(folder / "encoder"))
    params = small.functions(c).init().params["codec"]
    shapes = jax.eval_shape(lambda p=params: p["decoder"])
    params = jax.device_get({**params, "decoder": lively(shapes, seed)})
    codec_export.write(folder / name, c, params, PIXELS, 7)
  return folder


def test_latents_are_the_encoders_features(runs):
  codec, sizes = (
    codecs.open_codec(str(runs / "codec")),
    codecs.sizes(str(runs / "codec")),
  )
  assert sizes == (16, 16, 0, True)
  assert sizes[:3] == (codec.stride, codec.channels, codec.codebook)
  found = codec.encode(PIXELS)
  assert found.shape == (3, 2, 2, 16) and found.dtype == np.float32
  assert abs(found.mean()) < 1e-3 and abs(found.std() - 1) < 1e-3  # shift and scale
  np.testing.assert_array_equal(
    codec.encode(PIXELS[2]), found[2]
  )  # alone as in a batch
  features = np.asarray(open_encoder(str(runs / "encoder"))(PIXELS))
  square = features.reshape(3, 2, 2, 2, 2, 16).mean(axis=(2, 4))
  np.testing.assert_allclose(
    (square - codec.shift) * codec.scale, found, rtol=1e-4, atol=1e-4
  )


def test_drawing_is_a_function_of_each_pictures_features(runs):
  codec = codecs.open_codec(str(runs / "codec"))
  latents = codec.encode(PIXELS)
  one = codec.decode(latents)
  assert one.shape == PIXELS.shape and one.dtype == np.uint8
  np.testing.assert_array_equal(codec.decode(latents), one)
  np.testing.assert_array_equal(codec.decode(latents[1]), one[1])
  assert (one[0] != one[1]).mean() > 0.1  # the noise is one and the same
  latents[0, 1, 1] += 1.0
  assert (codec.decode(latents[0]) != one[0]).any()
  swapped = latents[1][::-1]  # where a feature stands is part of what it says
  assert (codec.decode(swapped) != one[1]).any()


def test_guidance_and_steps_of_the_artefact_count(runs):
  codec = codecs.open_codec(str(runs / "codec"))
  latents = codec.encode(PIXELS[:1])
  shift = latents / codec.scale + codec.shift
  for changed in (dict(guidance=1.0), dict(steps=4), dict(sampler="ddim")):
    sample = dataclasses.replace(codec.form.sample, **changed)
    form = dataclasses.replace(codec.form, sample=sample)
    with jax.default_matmul_precision("float32"):
      other = jax.jit(form.decode, compiler_options=small.QUICK)(codec._params, shift)
    pixels = np.clip(np.rint((np.asarray(other) + 1) * 127.5), 0, 255)
    assert (pixels != codec.decode(latents)).mean() > 0.05, changed


def test_it_needs_no_encoder_beside_it_and_no_damage(runs, tmp_path):
  shutil.copytree(runs / "codec", tmp_path / "alone")
  here, there = (
    codecs.open_codec(str(p)) for p in (tmp_path / "alone", runs / "codec")
  )
  assert here.identity == there.identity
  np.testing.assert_array_equal(here.encode(PIXELS), there.encode(PIXELS))
  for file in (artefact.ABOUT, artefact.WEIGHTS):
    run = tmp_path / file
    shutil.copytree(runs / "codec", run)
    path = run / "codec" / file
    content = bytearray(path.read_bytes())
    at = (
      content.index(b'"pooling": ') + 11 if file == artefact.ABOUT else len(content) - 5
    )
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{file} has changed"):
      codecs.open_codec(str(run))


def test_an_artefact_of_another_version_is_refused(runs, tmp_path):
  shutil.copytree(runs / "codec", tmp_path / "old")
  about = artefact.read(str(tmp_path / "old"))
  old = {
    **about.codec,
    "dit": {k: v for k, v in about.codec["dit"].items() if k != "depth"},
  }
  artefact.write_about(
    tmp_path / "old" / "codec", dataclasses.replace(about, codec=old)
  )
  with pytest.raises(ConfigError, match="another version.*depth"):
    codecs.open_codec(str(tmp_path / "old"))


def test_pictures_of_another_size_are_refused(runs):
  name = str(runs / "codec")
  with pytest.raises(ConfigError, match="reads pictures of 32 pixels and no others"):
    small.config(data__codec=name, data__image_size=64, data__patch_size=1)
  with pytest.raises(ValueError, match="reads 32 px a side"):
    codecs.open_codec(name).encode(small.image(0, size=48).pixels())


def test_kept_latents_equal_live_ones_and_only_they_are_read(runs, tmp_path):
  """Bit for bit, in the rows that training reads."""
  c = small.scenes(data__codec=str(runs / "codec"), data__patch_size=1)
  assert (c.grid, c.patch_channels) == (2, 16)
  live = make_source(c.data.sources[0], 32, num_documents=3)
  prepare.prepare(live, str(tmp_path / "kept"), codec=c.data.codec)
  kept = records.RecordsSource(
    records.RecordsOptions(str(tmp_path / "kept"), split="all")
  )
  builder = small.builder(c)
  for i in range(3):
    rows = [builder.row([builder.layout(d[i], key=1)]) for d in (live, kept)]
    jax.tree.map(np.testing.assert_array_equal, *rows)
    assert rows[0].patches_BTC.any()
  info = json.loads((tmp_path / "kept" / "info.json").read_text())
  assert info["source"]["codec"] == codecs.identity(c.data.codec)
  other = small.scenes(data__codec=str(runs / "other"), data__patch_size=1)
  with pytest.raises(DataError, match="made by another codec"):
    builder = small.builder(other)
    builder.row([builder.layout(kept[0])])


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(codec__pooling=3), "codec.pooling: 3 must divide the 4 patches"),
    (
      dict(data__codec="blocks"),
      "data.codec: 'blocks', but train.task='decoder' draws",
    ),
    (dict(data__patch_size=5), "data.image_size: 32 must be a multiple of data.patch"),
    (dict(vision__heads=3), "vision.heads: 3 must divide vision.width 16"),
    (dict(data__mixture="linear"), "data.mixture: 'linear' changes packed rows"),
    (dict(dit__heads=3), "dit.heads: 3 must divide dit.width 16"),
  ],
)
def test_knobs_that_clash(knobs, message):
  with pytest.raises(ConfigError, match=message):
    config(**knobs)


def test_encoders_that_do_not_fit_are_refused(runs, tmp_path):
  name = str(runs / "encoder")
  with pytest.raises(ConfigError, match="codec.encoder.*was trained on 32 pixels"):
    decoding.form(config(codec__encoder=name, data__image_size=64))
  with pytest.raises(ConfigError, match="codec.pooling: 3 must divide the 4 patches"):
    decoding.form(config(codec__encoder=name, codec__pooling=3))
  with pytest.raises(ConfigError, match="codec.encoder: .*holds no trained encoder"):
    decoding.form(config(codec__encoder=str(tmp_path)))
