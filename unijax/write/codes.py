"""Choosing image codes from their logits: guidance, temperature, top-k."""

import jax
import jax.numpy as jnp

from unijax.write.base import Knobs

MASKED = -1e30


def guided(logits, branches: int, knobs: Knobs):
  """Logits of all branches -> of each row: float32 [rows, ..., codebook] -> [B, ..].

  With two branches, rows are the conditional ones and then their shadows, and the
  logits are u + s (c - u): classifier-free guidance on log-probabilities (Ho &
  Salimans 2022), up to a constant that no choice depends on.
  """
  if branches == 2:
    conditional, shadow = jnp.split(logits, 2)
    logits = shadow + knobs.guidance * (conditional - shadow)
  return logits


def draw(logits, keys_B, knobs: Knobs) -> jax.Array:
  """Returns int32 [B, ...]: codes drawn with each row's own key; temperature 0 is
  greedy. Top-k keeps what is as likely as the k-th code, or more."""

  def sample():
    scaled = tempered(logits, knobs)
    return jax.vmap(jax.random.categorical)(keys_B, scaled)

  greedy = lambda: jnp.argmax(logits, axis=-1)  # noqa: E731
  return jax.lax.cond(knobs.temperature > 0, sample, greedy).astype(jnp.int32)


def tempered(logits, knobs: Knobs) -> jax.Array:
  """The logits that `draw` samples from."""
  scaled = logits / jnp.maximum(knobs.temperature, 1e-6)
  K = scaled.shape[-1]
  k = jnp.where(knobs.top_k > 0, jnp.minimum(knobs.top_k, K), K)
  least = jnp.take(jnp.sort(scaled, axis=-1), K - k, axis=-1)[..., None]
  return jnp.where(scaled >= least, scaled, MASKED)
