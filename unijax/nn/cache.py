"""The cache of keys and values: made empty, and appended to."""

import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.types import Cache


def make_cache(config: Config, rows: int, slots: int) -> Cache:
  """Returns an empty cache for `rows` rows of at most `slots` positions."""
  m, d = config.model, config.denoiser
  dtype = jnp.dtype(m.dtype)

  def blocks(depth: int, heads: int, width: int):
    shape = (depth, rows, slots, heads, width)
    return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)

  kv = blocks(m.depth, m.kv_heads, m.head_dim)
  denoiser = blocks(d.depth, d.kv_heads, d.head_dim) if d.depth else None
  return Cache(*kv, jnp.zeros(rows, jnp.int32), denoiser)


def commit(cache: Cache, kv, count_B) -> Cache:
  """Appends the first count_B[b] of T new positions to each row of the cache.

  Args:
    cache: to append to.
    kv: keys and values of the new positions, in the form of `Cache.kv`.
    count_B: how many of them each row keeps.
  """
  T, slots = kv[0].shape[2], cache.keys_NBSGK.shape[2]
  offset = jnp.arange(T, dtype=jnp.int32)
  slot_BT = cache.length_B[:, None] + offset
  slot_BT = jnp.where(offset < count_B[:, None], slot_BT, slots)  # dropped
  row = jnp.arange(kv[0].shape[1])[:, None]
  put = lambda held, new: held.at[:, row, slot_BT].set(new, mode="drop")  # noqa: E731
  return cache.with_kv(jax.tree.map(put, cache.kv, kv), cache.length_B + count_B)
