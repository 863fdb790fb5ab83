"""Losses as (sum, weight) pairs, divided once by global totals.

Dividing late is what makes packed equal to unpacked, and any split of the batch over
devices or accumulation steps give the same gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unijax.nn import logical
from unijax.types import Batch

NOISE_LEVELS = 10  # bins of the timestep in which the denoising loss is reported


class Sum(NamedTuple):
  """A weighted sum and the total weight; arrays of equal shape."""

  value: jax.Array
  weight: jax.Array

  def mean(self) -> jax.Array:
    """value / weight, and 0 where nothing was weighted."""
    return self.value / jnp.where(self.weight > 0, self.weight, 1.0)


class TextSums(NamedTuple):
  """What the text head's logits are summed to; all share one weight."""

  nll: Sum  # negative log-likelihood, in nats
  log_z: Sum  # squared log normaliser, for z-loss
  accuracy: Sum  # correctness of the most likely token


def text_nll(to_logits, h_BTD, batch: Batch, chunks: int = 1) -> TextSums:
  """Next-token loss over supervised tokens.

  Position t predicts token t + 1 with the weight that token carries.

  Args:
    to_logits: hidden states [..., D] -> float32 logits [..., V].
    h_BTD: hidden states.
    batch: tokens and their weights.
    chunks: parts of a row that are taken one after the other, so that only T / chunks
      positions' logits exist at a time, also in the backward pass.
  """
  # The last position predicts nothing.
  target = jnp.pad(batch.tokens_BT[:, 1:], ((0, 0), (0, 1)))
  weight = jnp.pad(batch.text_weight_BT[:, 1:], ((0, 0), (0, 1)))

  def sums(h, target, weight):
    return _text_sums(to_logits(h), target, weight)

  if chunks == 1:
    return sums(h_BTD, target, weight)

  def split(x):  # every chunk takes positions from all over the row, so that each
    x = x.reshape(x.shape[0], -1, chunks, *x.shape[2:])  # device has its share of it
    return jnp.moveaxis(x, 2, 0)

  def one(total, chunk):
    return jax.tree.map(jnp.add, total, jax.checkpoint(sums)(*chunk)), None

  zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(sums, h_BTD, target, weight))
  return jax.lax.scan(one, zero, jax.tree.map(split, (h_BTD, target, weight)))[0]


def _text_sums(logits, target, weight) -> TextSums:
  logits = logical.constrain(logits, "batch", "sequence", "act_vocab")
  log_z = jax.nn.logsumexp(logits, axis=-1)
  # A sum instead of a gather: the vocabulary may be divided over devices.
  here = jnp.arange(logits.shape[-1]) == target[..., None]
  picked = jnp.where(here, logits, 0.0).sum(axis=-1)
  right = jnp.argmax(logits, axis=-1) == target
  total = weight.sum()
  return TextSums(
    Sum(((log_z - picked) * weight).sum(), total),
    Sum((log_z**2 * weight).sum(), total),
    Sum((right * weight).sum(), total),
  )


def image_mse(prediction_BTC, target_BTC, time_BT, batch: Batch) -> tuple[Sum, Sum]:
  """Denoising loss over supervised patches, a mean over the channels of each.

  Returns:
    The total as scalars, and the same [NOISE_LEVELS] by timestep, from clean to noise.
  """
  error = jnp.square(prediction_BTC - target_BTC).mean(axis=-1)
  weight = batch.image_weight_BT
  level = jnp.clip((time_BT * NOISE_LEVELS).astype(jnp.int32), 0, NOISE_LEVELS - 1)
  by_level = jax.nn.one_hot(level, NOISE_LEVELS) * weight[..., None]
  levels = Sum(jnp.einsum("bt,btl->l", error, by_level), jnp.einsum("btl->l", by_level))
  return Sum((error * weight).sum(), weight.sum()), levels
