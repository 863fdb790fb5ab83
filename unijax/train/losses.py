"""Losses as (sum, weight) pairs, divided once by global totals.

Dividing late is what makes packed equal to unpacked, and any split of the batch over
devices or accumulation steps give the same gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from unijax.types import Batch

NOISE_LEVELS = 10  # bins of the timestep in which the denoising loss is reported


class Sum(NamedTuple):
  """A weighted sum and the total weight; arrays of equal shape."""

  value: jax.Array
  weight: jax.Array

  def mean(self) -> jax.Array:
    """value / weight, and 0 where nothing was weighted."""
    return self.value / jnp.where(self.weight > 0, self.weight, 1.0)


def text_nll(logits_BTV, batch: Batch) -> tuple[Sum, Sum, Sum]:
  """Next-token loss over supervised tokens.

  Position t predicts token t + 1 with the weight that token carries.

  Returns:
    Sums of: negative log-likelihood in nats; squared log normaliser (for z-loss);
    correctness of the most likely token.
  """
  logits = logits_BTV[:, :-1]
  target, weight = batch.tokens_BT[:, 1:], batch.text_weight_BT[:, 1:]
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, target)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  right = jnp.argmax(logits, axis=-1) == target
  total = weight.sum()
  return (
    Sum((nll * weight).sum(), total),
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
