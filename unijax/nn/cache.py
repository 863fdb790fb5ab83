"""The cache of keys and values: made empty, and appended to."""

import jax.numpy as jnp

from unijax.config import Config
from unijax.types import Cache


def make_cache(config: Config, rows: int, slots: int) -> Cache:
  """Returns an empty cache for `rows` rows of at most `slots` positions."""
  m = config.model
  shape = (m.depth, rows, slots, m.kv_heads, m.head_dim)
  dtype = jnp.dtype(m.dtype)
  return Cache(
    jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(rows, jnp.int32)
  )


def commit(cache: Cache, kv, count_B) -> Cache:
  """Appends the first count_B[b] of T new positions to each row of the cache."""
  keys, values = kv
  T, slots = keys.shape[2], cache.keys_NBSGK.shape[2]
  offset = jnp.arange(T, dtype=jnp.int32)
  slot_BT = cache.length_B[:, None] + offset
  slot_BT = jnp.where(offset < count_B[:, None], slot_BT, slots)  # dropped
  row = jnp.arange(keys.shape[1])[:, None]
  return Cache(
    cache.keys_NBSGK.at[:, row, slot_BT].set(keys, mode="drop"),
    cache.values_NBSGK.at[:, row, slot_BT].set(values, mode="drop"),
    cache.length_B + count_B,
  )
