"""Laws of what pictures are judged by: the perceptual distance and the discriminator."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import small
from unijax.codecs import features, perceptual
from unijax.codecs.discriminator import Discriminator, hinge

PICTURES = jnp.asarray(
  np.stack([small.image(i, size=32).pixels() for i in range(4)]) / 127.5 - 1.0,
  jnp.float32,
)


def quick(function):
  return jax.jit(function, compiler_options=small.QUICK)


def test_the_perceptual_distance_is_two_minus_two_cosines():
  """A mean over places, then over stages, of activations of pixels in [0, 255]."""
  one, other = PICTURES[:2], PICTURES[2:]
  want = np.zeros(2)
  stages = quick(lambda x: features.stages(features.weights(), (x + 1) * 127.5, 4))
  for both in stages(PICTURES):
    a, b = np.split(np.asarray(both, np.float64), 2)
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    want += (2 - 2 * (a * b).sum(-1) / length).mean((1, 2)) / 4
  np.testing.assert_allclose(quick(perceptual.distance)(one, other), want, rtol=1e-4)
  assert want.min() > 0.1


def test_the_perceptual_distance_of_equal_pictures_is_flat():
  """Zero, with a gradient that is finite and zero; and it grows with a change."""
  near = quick(jax.value_and_grad(lambda x: perceptual.distance(x, PICTURES[:1])[0]))
  value, gradient = near(PICTURES[:1])
  assert value == 0 and jnp.isfinite(gradient).all() and abs(gradient).max() < 1e-6
  dimmed = [float(near(PICTURES[:1] * share)[0]) for share in (0.9, 0.5)]
  assert 0 < dimmed[0] < dimmed[1]


def test_each_patch_of_each_picture_is_judged_alone():
  c = small.codec("kl", codec__adversary_width=8, codec__adversary_layers=2).codec
  module = Discriminator(c)
  params = quick(module.init)(jax.random.key(0), PICTURES[:1])
  judge = quick(lambda x: module.apply(params, x))
  logits = judge(PICTURES)
  assert logits.shape == (4, 8, 8)
  np.testing.assert_allclose(judge(PICTURES[2:3])[0], logits[2], rtol=1e-4, atol=1e-5)
  assert float(logits.std()) > 1e-3, "places differ"


def test_the_hinge_counts_what_is_on_the_wrong_side_of_its_margin():
  real = jnp.asarray([[[2.0, 0.5]], [[-1.0, 1.0]]])
  fake = jnp.asarray([[[-2.0, 0.5]], [[-1.0, -3.0]]])
  want = [0.5 * (0.5 / 2 + 1.5 / 2), 0.5 * (2.0 / 2 + 0.0)]
  np.testing.assert_allclose(hinge(real, fake), want)
