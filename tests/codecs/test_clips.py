"""Codecs whose kernels see frames: what a frame may see, and what a picture costs."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from tests import small
from unijax.codecs.model import Autoencoder
from unijax.config import ConfigError
from unijax.train import tasks

FRAMES = 7  # 4 latents


def config(**knobs):
  """Two levels with half the frames at the second, kernels of 3, and RMS norms."""
  made = dict(
    codec__multipliers=(1, 2), codec__kernel_frames=3, codec__time_halvings=(0,),
    codec__time_stride=2, codec__encoder_norm="rms", codec__decoder_norm="rms",
    codec__narrow_doublings=True, codec__attention=True,
  )  # fmt: skip
  return small.codec("kl", **{**made, **knobs})


@functools.cache
def made(**knobs):
  """(module, its parameters, none of which is a zero)."""
  model = Autoencoder(config(**knobs).codec)
  given = jnp.zeros((1, 8, 8, 3)), jax.random.split(jax.random.key(1), 1)
  shapes = meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *given)["params"])
  draw = np.random.default_rng(0)

  def leaf(path, x):
    around = path[-1].key == "scale"
    return jnp.asarray(around + 0.3 * draw.standard_normal(x.shape), jnp.float32)

  return model, jax.tree.map_with_path(leaf, shapes)


def run(method, x, **knobs):
  model, params = made(**knobs)
  return jax.jit(lambda p, x: model.apply({"params": p}, x, method=method))(params, x)


def vectors(model, x):
  return model.encoder(x)


OTHER = {"codec__kernel_frames": 2, "codec__encoder_norm": "group"}
KINDS = pytest.mark.parametrize(
  "knobs", [{}, pytest.param(OTHER, marks=pytest.mark.slow)], ids=["3 rms", "2 group"]
)


@KINDS
def test_a_picture_is_the_first_frame_of_any_clip(knobs):
  x = jax.random.uniform(jax.random.key(3), (2, FRAMES, 12, 8, 3), minval=-1.0)
  alone, clip = run(vectors, x[:, 0], **knobs), run(vectors, x, **knobs)
  assert alone.shape == (2, 6, 4, 6) and clip.shape == (2, 4, 6, 4, 6)
  np.testing.assert_allclose(alone, clip[:, 0], atol=2e-5)
  np.testing.assert_allclose(run(vectors, x[:, :1], **knobs), clip[:, :1], atol=2e-5)
  z = jax.random.normal(jax.random.key(4), (2, 4, 6, 4, 3))
  drawn = run("decode", z, **knobs)
  assert drawn.shape == x.shape
  np.testing.assert_allclose(run("decode", z[:, 0], **knobs), drawn[:, 0], atol=2e-4)


@KINDS
def test_no_frame_sees_a_later_one_and_all_see_the_one_before(knobs):
  x = jax.random.uniform(jax.random.key(3), (1, FRAMES, 8, 8, 3), minval=-1.0)
  whole, cut = run(vectors, x, **knobs), run(vectors, x.at[:, 3].add(0.5), **knobs)
  np.testing.assert_allclose(cut[:, :2], whole[:, :2], atol=2e-5)  # frames 0, 1 and 2
  assert (abs(cut - whole)[:, 2:].max((0, 2, 3, 4)) > 1e-3).all()
  z = jax.random.normal(jax.random.key(4), (1, 4, 4, 4, 3))
  drawn, other = run("decode", z, **knobs), run("decode", z.at[:, 2].add(1.0), **knobs)
  np.testing.assert_allclose(other[:, :3], drawn[:, :3], atol=2e-4)
  assert (abs(other - drawn)[:, 3:].max((0, 2, 3, 4)) > 1e-3).all()


def convolutions(jaxpr):
  """Ranks of what all convolutions in there read."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == "conv_general_dilated":
      yield equation.invars[0].aval.ndim
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from convolutions(inner)


def test_a_picture_costs_what_it_costs_without_frames():
  model, params = made()
  both = lambda m, x: m.decode(m.encode(x))
  for x, rank in ((jnp.ones((1, 8, 8, 3)), 4), (jnp.ones((1, 5, 8, 8, 3)), 5)):
    apply = functools.partial(model.apply, {"params": params}, method=both)
    assert max(convolutions(jax.make_jaxpr(apply)(x).jaxpr)) == rank


def test_pictures_train_all_weights_that_act_on_them():
  c = config()
  task = tasks.make_task(c, 0)
  model, params = made()
  pixels = jax.random.randint(jax.random.key(5), (2, 32, 32, 3), 0, 256, jnp.uint8)
  batch = type(task.batch_axes())(pixels, jnp.arange(2, dtype=jnp.uint32))
  loss = lambda p: task.loss({"codec": p}, batch, jax.random.key(0))[0]
  kernels = 0
  gradients = jax.jit(jax.grad(loss))(params)
  for path, x in jax.tree.leaves_with_path(gradients):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    assert np.isfinite(x).all(), name
    if "_time" in name:
      assert not x.any(), name  # there is nothing to halve or to double
    elif x.ndim == 5:
      assert not x[:-1].any() and x[-1].any(), name
      kernels += 1
    else:
      assert x.any(), name
  assert kernels == 2 * 2 + 2 * (2 * 2 + 2 + 4)  # ends; both middles, encoder, decoder


@pytest.mark.parametrize(
  ("count", "wanted"), [(6, "give 5 or 7"), (2, "give 1 or 3"), (0, "give 1")]
)
def test_a_clip_of_a_wrong_number_of_frames_is_refused(count, wanted):
  with pytest.raises(ValueError, match=f"a clip of {count} frames: .*{wanted}"):
    run(vectors, jnp.ones((1, count, 8, 8, 3)))


@pytest.mark.parametrize(
  ("knobs", "wanted"),
  [
    ({"codec__time_stride": 4}, r"codec.time_stride: 4 must be 2, as codec.time_halv"),
    ({"codec__time_halvings": (2,)}, "codec.time_halvings: .2,. must be different"),
    ({"codec__kernel_frames": 1}, "codec.time_halvings: .0,. is not read while"),
    ({"codec__kernel_frames": 0}, "codec.kernel_frames: 0 must be > 0"),
    ({"codec__decoder_norm": "spatial"}, "codec.decoder_norm: 'spatial' is guided by"),
    ({"codec__width": 7}, "codec.narrow_doublings: codec.width 7 x "),
    ({"codec__scale": (1.0, 2.0)}, "codec.scale: 2 numbers, and codec.channels=3"),
    ({"codec__scale": (1.0, 0.0, 2.0)}, "codec.scale: .* must be > 0 for each"),
    ({"codec__scale": (1.0, -1.0, 2.0)}, "codec.scale: .* must be >= 0"),
    ({"codec__scale": 1.0, "codec__shift": (0.0,)}, "codec.shift: 1 numbers"),
    ({"codec__shift": (0.0,) * 3}, "codec.shift: .* not read while codec.scale is 0"),
  ],
)
def test_what_does_not_fit_is_refused(knobs, wanted):
  with pytest.raises(ConfigError, match=wanted):
    config(**{"codec__multipliers": (1, 1, 1), **knobs})


def test_groups_are_of_group_norm_alone():
  assert config(codec__groups=3).codec.groups == 3
  with pytest.raises(ConfigError, match="codec.groups: 3 must divide"):
    config(codec__groups=3, codec__encoder_norm="group")
