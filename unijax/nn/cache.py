"""The cache of keys and values: made empty, and appended to."""

import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.types import Cache


def make_cache(config: Config, rows: int, slots: int) -> Cache:
  """Returns an empty cache for `rows` rows of at most `slots` positions."""
  m, d = config.model, config.denoiser
  dtype = jnp.dtype(m.dtype)

  def blocks(depth: int, heads: int, width: int, apart: bool = False):
    shape = (rows, heads, slots, width)
    if apart:
      return tuple(tuple(jnp.zeros(shape, dtype) for _ in range(depth)) for _ in "kv")
    return tuple(jnp.zeros((depth, *shape), dtype) for _ in "kv")

  kv = blocks(m.depth, m.kv_heads, m.head_dim, config.sample.layers_apart)
  denoiser = blocks(d.depth, d.kv_heads, d.head_dim) if d.depth else None
  return Cache(*kv, jnp.zeros(rows, jnp.int32), denoiser)


def commit(cache: Cache, kv, count_B) -> Cache:
  """Appends the first count_B[b] of T new positions to each row of the cache.

  Args:
    cache: to append to.
    kv: keys and values [(N,) B, T, G, K] of the new positions, ordered as `Cache.kv`.
    count_B: how many of them each row keeps.
  """
  T, slots = jax.tree.leaves(kv)[0].shape[-3], cache.slots
  offset = jnp.arange(T, dtype=jnp.int32)
  slot_BT = cache.length_B[:, None] + offset
  slot_BT = jnp.where(offset < count_B[:, None], slot_BT, slots)  # dropped
  row = jnp.arange(len(count_B))[:, None]

  def layer(held_BGSK, new_BTGK):
    return held_BGSK.at[row, :, slot_BT].set(new_BTGK, mode="drop")

  def put(held, new):
    return (layer if held.ndim == 4 else jax.vmap(layer))(held, new)

  return cache.with_kv(jax.tree.map(put, cache.kv, kv), cache.length_B + count_B)
