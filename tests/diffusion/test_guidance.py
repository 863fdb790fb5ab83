"""Identities of classifier-free guidance."""

import jax
import numpy as np
import pytest

from unijax.diffusion.guidance import guide, guide_slope

C, U = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 4, 5)))
T = np.array([0.1, 0.5, 0.9], np.float32)


def guided(scale=2.0, low=0.0, high=1.0, rescale=0.0, c=C, u=U):
  return np.asarray(guide(c, u, T, scale=scale, low=low, high=high, rescale=rescale))


def test_scale_one_is_conditional_and_zero_unconditional():
  np.testing.assert_allclose(guided(1.0), C, atol=1e-6)
  np.testing.assert_allclose(guided(0.0), U, atol=1e-6)
  np.testing.assert_allclose(guided(3.0), U + 3 * (C - U), atol=1e-5)
  # With equal predictions, guidance of any scale does nothing.
  np.testing.assert_allclose(guided(7.0, rescale=0.7, u=C), C, atol=1e-5)


def test_outside_the_interval_it_is_conditional():
  made = guided(2.0, low=0.3, high=0.6)
  assert (made[0] == C[0]).all() and (made[2] == C[2]).all()
  assert (made[1] == guided(2.0)[1]).all() and (made[1] != C[1]).any()
  assert (guided(2.0, low=0.5, high=0.5) == made).all()  # both ends belong to it


def test_rescaling_gives_each_sample_the_conditional_contrast():
  full = guided(4.0, rescale=1.0)
  np.testing.assert_allclose(full.std(axis=(1, 2)), C.std(axis=(1, 2)), rtol=1e-5)
  plain = guided(4.0)
  np.testing.assert_allclose(guided(4.0, rescale=0.25), 0.25 * full + 0.75 * plain,
                             rtol=1e-4, atol=1e-5)  # fmt: skip


def test_rescaling_is_of_the_sample_not_of_the_batch():
  louder = np.concatenate([C[:1], 10 * C[1:]])
  made = guided(4.0, rescale=1.0, c=louder)
  assert (made[0] == guided(4.0, rescale=1.0)[0]).all()


SLOPES = np.asarray(jax.random.normal(jax.random.key(1), (3, 3, 4, 5)), np.float64)


@pytest.mark.parametrize("renorm", ["none", "patch", "image", "text_patch"])
@pytest.mark.parametrize("pictures", [True, False])
def test_slopes_are_guided_twice_and_no_longer_than_without(renorm, pictures):
  """Against Deng et al.'s equations, sample by sample in NumPy."""
  whole, no_text, no_pictures = SLOPES
  knobs = dict(scale=3.0, picture_scale=2.0, low=0.3, high=0.95, least=0.2)
  made = guide_slope(
    whole, no_text, no_pictures if pictures else None, T, renorm=renorm, **knobs
  )
  for b in range(3):
    v = no_text[b] + 3.0 * (whole[b] - no_text[b])
    own = np.linalg.norm(whole[b], axis=-1, keepdims=True)
    if renorm == "text_patch":
      v = v * np.clip(own / np.linalg.norm(v, axis=-1, keepdims=True), 0.2, 1)
    if pictures:
      v = no_pictures[b] + 2.0 * (v - no_pictures[b])
    if renorm == "patch":
      v = v * np.clip(own / np.linalg.norm(v, axis=-1, keepdims=True), 0.2, 1)
    if renorm == "image":
      v = v * np.clip(np.linalg.norm(whole[b]) / np.linalg.norm(v), 0.2, 1)
    wanted = v if T[b] >= 0.3 else whole[b]
    np.testing.assert_allclose(made[b], wanted, rtol=1e-5, atol=1e-5)
