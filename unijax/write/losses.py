"""Losses as (sum, weight) pairs, divided once by global totals.

Dividing late is what makes packed equal to unpacked, and any split of the batch over
devices or accumulation steps give the same gradient.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unijax.nn import logical
from unijax.types import Batch, Sum

NOISE_LEVELS = 10  # bins of the timestep in which the denoising loss is reported


class Ask(NamedTuple):
  """What logits are asked for at every position."""

  target_BT: jax.Array  # int32: the right token
  weight_BT: jax.Array  # float32: of its loss


class TokenSums(NamedTuple):
  """What logits are summed to for one ask; all share one weight."""

  nll: Sum  # negative log-likelihood, in nats
  log_z: Sum  # squared log normaliser, for z-loss
  accuracy: Sum  # correctness of the most likely token


def next_token(batch: Batch, weight_BT) -> Ask:
  """Position t is asked for token t + 1 with the weight of that; the last for none."""
  target = jnp.pad(batch.tokens_BT[:, 1:], ((0, 0), (0, 1)))
  return Ask(target, jnp.pad(weight_BT[:, 1:], ((0, 0), (0, 1))))


def text_nll(to_logits, h_BTD, batch: Batch, chunks: int = 1) -> TokenSums:
  """Next-token loss over supervised text; arguments as `token_sums`."""
  asks = {"text": next_token(batch, batch.text_weight_BT)}
  return token_sums(to_logits, h_BTD, asks, chunks)["text"]


def token_sums(
  to_logits, h_BTD, asks: Mapping[str, Ask], chunks: int = 1, apart: int = 0
) -> dict[str, TokenSums]:
  """Sums over all positions for each ask; the logits are computed once.

  Args:
    to_logits: hidden states [..., D] -> float32 logits [..., V].
    h_BTD: hidden states.
    asks: by name, what is asked.
    chunks: parts of a row that are taken one after the other, so that only T / chunks
      positions' logits exist at a time, also in the backward pass.
    apart: first id of those with a softmax of their own; 0: there is one of all ids.
  """
  asks = dict(asks)

  def sums(h, asks):
    return _sums(to_logits(h), asks, apart)

  if chunks == 1:
    return sums(h_BTD, asks)

  def split(x):  # every chunk takes positions from all over the row, so that each
    x = x.reshape(x.shape[0], -1, chunks, *x.shape[2:])  # device has its share of it
    return jnp.moveaxis(x, 2, 0)

  def one(total, chunk):
    return jax.tree.map(jnp.add, total, jax.checkpoint(sums)(*chunk)), None

  zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(sums, h_BTD, asks))
  return jax.lax.scan(one, zero, jax.tree.map(split, (h_BTD, asks)))[0]


def _sums(logits, asks: Mapping[str, Ask], apart: int) -> dict[str, TokenSums]:
  logits = logical.constrain(logits, "batch", "sequence", "act_vocab")
  parts = [logits[..., :apart], logits[..., apart:]] if apart else [logits]
  log_zs = [jax.nn.logsumexp(x, axis=-1) for x in parts]
  bests = [jnp.argmax(x, axis=-1) for x in parts]

  def one(ask: Ask) -> TokenSums:
    log_z, best = log_zs[0], bests[0]
    if apart:
      late = ask.target_BT >= apart
      log_z = jnp.where(late, log_zs[1], log_z)
      best = jnp.where(late, apart + bests[1], best)
    # A sum instead of a gather: the vocabulary may be divided over devices.
    here = jnp.arange(logits.shape[-1]) == ask.target_BT[..., None]
    picked = jnp.where(here, logits, 0.0).sum(axis=-1)
    weight, total = ask.weight_BT, ask.weight_BT.sum()
    return TokenSums(
      Sum(((log_z - picked) * weight).sum(), total),
      Sum((log_z**2 * weight).sum(), total),
      Sum(((best == ask.target_BT) * weight).sum(), total),
    )

  return {name: one(ask) for name, ask in asks.items()}


def image_mse(prediction_BTC, target_BTC, time_BT, batch: Batch) -> tuple[Sum, Sum]:
  """Denoising loss over supervised patches, a mean over the channels of each.

  Returns:
    The total as scalars, and the same [NOISE_LEVELS] by timestep, from clean to noise.
  """
  error = jnp.square(prediction_BTC - target_BTC).mean(axis=-1)
  weight = batch.image_weight_BT
  return Sum((error * weight).sum(), weight.sum()), by_noise(error, time_BT, weight)


def by_noise(loss_BT, time_BT, weight_BT) -> Sum:
  """A weighted sum for each bin of the timestep: arrays of [NOISE_LEVELS]."""
  level = jnp.clip((time_BT * NOISE_LEVELS).astype(jnp.int32), 0, NOISE_LEVELS - 1)
  by_level = jax.nn.one_hot(level, NOISE_LEVELS) * weight_BT[..., None]
  total = jnp.einsum("...t,...tl->l", loss_BT, by_level)
  return Sum(total, by_level.reshape(-1, NOISE_LEVELS).sum(axis=0))
