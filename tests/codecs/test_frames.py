"""Codecs of frames: a picture is equal frames, of which the first one is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from configs.codecs import common
from unijax.codecs import frames
from unijax.codecs.model import Autoencoder
from unijax.config import ConfigError, from_config_dict


def config(**codec):
  c = common.codec_config()
  small = {
    "width": 8, "multipliers": (1, 2), "blocks": (1,), "groups": 4, "channels": 3,
    "bottleneck": "vq", "codebook": 16, "time_stride": 4, "decoder_norm": "spatial",
  }  # fmt: skip
  c.codec.update(small | codec)
  c.data.image_size = c.data.sources.scenes.options.image_size = 32
  return from_config_dict(c).codec


@functools.cache
def made(**codec):
  """(module, its parameters, none of which is a zero)."""
  model = Autoencoder(config(**codec))
  given = jnp.zeros((1, 4, 4, 3)), jax.random.split(jax.random.key(1), 1)
  shapes = meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *given)["params"])
  draw = np.random.default_rng(0)

  def leaf(path, x):
    around = path[-1].key in ("scale", "variance")
    return jnp.asarray(around + 0.3 * draw.standard_normal(x.shape), jnp.float32)

  return model, jax.tree.map_with_path(leaf, shapes)


def run(method, x, **codec):
  model, params = made(**codec)
  return jax.jit(lambda p, x: model.apply({"params": p}, x, method=method))(params, x)


def test_a_picture_is_four_equal_frames():
  pixels = jax.random.uniform(jax.random.key(3), (2, 4, 6, 3), minval=-1.0)
  vectors = lambda m, x: m.encoder(x)  # noqa: E731
  alone, clip = (run(vectors, x) for x in (pixels, frames.of_picture(pixels, 4)))
  assert alone.shape == (2, 2, 3, 3) and clip.shape == (2, 1, 2, 3, 3)
  np.testing.assert_allclose(alone, clip[:, 0], atol=1e-6)


def test_what_is_drawn_is_the_first_frame_whatever_follows():
  z = jax.random.normal(jax.random.key(4), (1, 2, 2, 3, 3))
  alone, clip = run("decode", z[:, 0]), run("decode", z)
  assert clip.shape == (1, 8, 4, 6, 3)
  np.testing.assert_allclose(alone, clip[:, 0], atol=1e-5)
  other = run("decode", z.at[:, 1].add(1.0))
  np.testing.assert_allclose(other[:, :4], clip[:, :4], atol=1e-5)
  assert abs(other[:, 4:] - clip[:, 4:]).max() > 1e-3


def test_latents_move_the_norms_of_the_decoder():
  model, params = made()
  norm = params["decoder"]["up0_0"]["norm1"]
  assert set(norm) == {"norm", "times", "plus"}
  assert set(params["encoder"]["down0_0"]["norm1"]) == {"norm"}
  assert set(made(decoder_norm="group")[1]["decoder"]["up0_0"]["norm1"]) == {"norm"}


def test_no_gradient_reaches_statistics():
  model, params = made()

  def loss(p):
    keys = jax.random.split(jax.random.key(1), 1)
    out = model.apply({"params": p}, jnp.ones((1, 4, 4, 3)), keys)
    return jnp.square(out.pixels_BHWC).mean()

  gradient = jax.jit(jax.grad(loss))(params)["encoder"]["time"]["block0"]["norm1"]
  still = {name for name, x in gradient.items() if not x.any()}
  assert still == {"mean", "variance", "batches"}


@pytest.mark.parametrize(
  ("codec", "wanted"),
  [
    ({"time_stride": 3}, "codec.time_stride: 3 must be 1, 2, 4"),
    ({"project_width": 8}, "codec.project_width: 8 channels, but the same"),
  ],
)
def test_what_does_not_fit_is_refused(codec, wanted):
  with pytest.raises(ConfigError, match=wanted):
    config(**codec)
