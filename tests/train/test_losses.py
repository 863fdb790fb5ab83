"""Law 5: losses are sums with weights, and nothing weighted is nothing, never NaN."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.diffusion import process, schedules
from unijax.types import Sum
from unijax.write import losses

B, T, V, C = 4, 12, 11, 3


def text_nll(logits, batch, chunks=1):
  return losses.text_nll(lambda x: x, logits, batch, chunks)


def random_batch(seed: int):
  """Arbitrary weights, tokens, logits and predictions; shapes are all that counts."""
  rng = np.random.default_rng(seed)
  blank = small.batch(small.config(), *[[small.plain("a")]] * B)
  batch = dataclasses.replace(
    blank,
    tokens_BT=rng.integers(0, V, (B, T)),
    text_weight_BT=rng.uniform(size=(B, T)) * (rng.uniform(size=(B, T)) < 0.5),
    image_weight_BT=rng.uniform(size=(B, T)) * (rng.uniform(size=(B, T)) < 0.5),
  )
  logits, prediction, target = (
    rng.standard_normal((B, T, n)).astype(np.float32) for n in (V, C, C)
  )
  return batch, logits, prediction, target, rng.uniform(size=(B, T))


def rows_of(x, rows):
  return jax.tree.map(lambda a: a[np.array(rows)], x)


def test_sums_of_parts_are_the_sums_of_the_whole():
  batch, *arrays = random_batch(0)

  @jax.jit
  def all_sums(batch, logits, prediction, target, time):
    image = losses.image_mse(prediction, target, time, batch)
    return text_nll(logits, batch), image

  whole = all_sums(batch, *arrays)
  parts = [all_sums(*rows_of((batch, *arrays), rows)) for rows in ([2], [0, 3, 1])]
  jax.tree.map(
    lambda all_, a, b: np.testing.assert_allclose(a + b, all_, rtol=1e-5), whole, *parts
  )


def test_text_loss_by_its_definition():
  batch, logits, *_ = random_batch(1)
  nll = weight = right = square = 0.0
  for b in range(B):
    for t in range(T - 1):  # position t predicts token t + 1
      w, target = batch.text_weight_BT[b, t + 1], batch.tokens_BT[b, t + 1]
      log_z = np.log(np.exp(logits[b, t].astype(np.float64)).sum())
      nll += w * (log_z - logits[b, t, target])
      square += w * log_z**2
      right += w * (logits[b, t].argmax() == target)
      weight += w
  got = text_nll(logits, batch)
  for sum_, value in zip(got, (nll, square, right), strict=True):
    np.testing.assert_allclose(sum_, (value, weight), rtol=1e-5)


@pytest.mark.parametrize("chunks", [1, 3])
def test_ids_from_one_on_may_have_a_softmax_of_their_own(chunks):
  """Each target is judged among the ids on its side of the border, and no others."""
  batch, logits, *_ = random_batch(1)
  asks = {"a": losses.next_token(batch, batch.text_weight_BT)}
  got = losses.token_sums(lambda x: x, logits, asks, chunks, apart=7)["a"]
  nll = square = right = 0.0
  for b in range(B):
    for t in range(T - 1):
      w, target = batch.text_weight_BT[b, t + 1], batch.tokens_BT[b, t + 1]
      side = np.arange(V) >= 7 if target >= 7 else np.arange(V) < 7
      mine = np.where(side, logits[b, t].astype(np.float64), -np.inf)
      log_z = np.log(np.exp(mine).sum())
      nll += w * (log_z - logits[b, t, target])
      square += w * log_z**2
      right += w * (mine.argmax() == target)
  for sum_, value in zip(got, (nll, square, right), strict=True):
    np.testing.assert_allclose(sum_.value, value, rtol=1e-5)


@pytest.mark.parametrize("chunks", [2, 3, 12])
def test_chunks_change_nothing_but_the_memory(chunks):
  batch, _, _, _, _ = random_batch(3)
  rng = np.random.default_rng(4)
  h, table = (rng.standard_normal(s).astype(np.float32) for s in ((B, T, 8), (8, V)))

  def loss(h, table, chunks):
    sums = losses.text_nll(lambda x: x @ table, h, batch, chunks)
    return sums.nll.value + 0.1 * sums.log_z.value, sums

  run = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
  one, many = run(h, table, 1), run(h, table, chunks)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, many
  )
  text = jax.jit(run, static_argnums=2).lower(h, table, chunks).compile().as_text()
  assert f"f32[{B},{T},{V}]" not in text, "all logits are held at once"
  assert f"f32[{B},{T // chunks},{V}]" in text


def test_image_loss_by_its_definition():
  batch, _, prediction, target, time = random_batch(2)
  error = ((prediction - target) ** 2).mean(axis=-1)
  weight = batch.image_weight_BT
  total, levels = losses.image_mse(prediction, target, time, batch)
  np.testing.assert_allclose(total, ((error * weight).sum(), weight.sum()), rtol=1e-5)
  for level in range(losses.NOISE_LEVELS):
    here = (time >= level / 10) & (time < (level + 1) / 10)
    np.testing.assert_allclose(
      (levels.value[level], levels.weight[level]),
      ((error * weight)[here].sum(), weight[here].sum()),
      rtol=1e-5,
    )


def test_a_mean_of_nothing_is_zero():
  zero = Sum(jnp.zeros(()), jnp.zeros(()))
  assert (
    zero.mean() == 0.0 and jax.grad(lambda v: Sum(v, jnp.zeros(())).mean())(0.0) == 1.0
  )
  assert Sum(jnp.float32(3.0), jnp.float32(0.5)).mean() == 6.0


KINDS = ("x0", "epsilon", "v", "velocity")


@pytest.mark.parametrize("path", schedules.PATHS)
def test_no_conversion_gives_nan_at_any_time(path):
  """Even where a path's alpha or sigma vanishes, and at positions of weight zero."""
  time = jnp.array([0.0, 1e-6, 1e-3, 0.5, 0.999, 1.0])
  rng = np.random.default_rng(0)
  x0, epsilon, output = rng.standard_normal((3, len(time), C)).astype(np.float32)

  @jax.jit
  def everything(output):
    x_t = process.corrupt(path, x0, epsilon, time)
    found = {}
    for source in KINDS:
      for space in KINDS:

        def loss(y, source=source, space=space):
          y = process.convert(path, source, space, y, x_t, time)
          return ((y - process.to_kind(path, space, x0, epsilon, time)) ** 2).sum(-1)

        value, pull = jax.vjp(loss, output)
        # The cotangent of a loss with weight 0 is 0: it must not meet an infinity.
        found[source, space] = value, *pull(jnp.ones_like(value)), *pull(value * 0)
    return found

  for kinds, (value, gradient, nothing) in everything(output).items():
    assert jnp.isfinite(value).all(), (kinds, value)
    assert jnp.isfinite(gradient).all(), (kinds, gradient)
    assert (nothing == 0).all(), kinds
