"""Multi-head attention over the row's own positions and a cache of earlier ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn import rope
from unijax.nn.layers import Linear, RMSNorm

MASKED = -1e30  # finite, so that a query that sees nothing gives no NaN


def attend(q_BTHK, keys, values, masks) -> jax.Array:
  """Softmax attention over several groups of keys, as if they were one.

  Args:
    q_BTHK: queries, H = G * (queries a key head).
    keys, values: sequences of [B, S, G, K]; the groups may differ in S. Keeping the
      cache and the new positions apart saves copying the cache.
    masks: sequence of bool [B, T, S], True where the query sees the key.

  Returns:
    [B, T, H, K] in the dtype of q. Scores and softmax are float32.
  """
  B, T, H, K = q_BTHK.shape
  G = keys[0].shape[2]
  q = (q_BTHK * K**-0.5).reshape(B, T, G, H // G, K)
  scores = [
    jnp.where(
      mask[:, None, None],
      jnp.einsum("btgrk,bsgk->bgrts", q, key, preferred_element_type=jnp.float32),
      MASKED,
    )
    for key, mask in zip(keys, masks, strict=True)
  ]
  top = jnp.max(jnp.stack([s.max(-1) for s in scores]), axis=0)[..., None]
  weights = [jnp.exp(s - jax.lax.stop_gradient(top)) for s in scores]
  total = sum(w.sum(-1) for w in weights)
  out = sum(
    jnp.einsum("bgrts,bsgk->btgrk", w.astype(q.dtype), value)
    for w, value in zip(weights, values, strict=True)
  )
  out = out / total.transpose(0, 3, 1, 2)[..., None].astype(q.dtype)
  return out.reshape(B, T, H, K)


class Attention(nn.Module):
  """Self-attention with rotary positions, optional QK-norm and a read-only cache.

  Returns the mixed values and this call's keys and values [B, T, G, K]; whether
  they are committed to the cache is the caller's business.
  """

  config: ModelConfig
  out_scale: float

  @nn.compact
  def __call__(self, x_BTD, angle_BTK, own_BTT, cached=None):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    shape = x_BTD.shape[:2]

    def project(name, heads, axis):
      y = Linear(heads * c.head_dim, ("embed", axis), dtype, name=name)(x_BTD)
      return y.reshape(*shape, heads, c.head_dim)

    q = project("q", c.heads, "heads")
    k = project("k", c.kv_heads, "kv_heads")
    v = project("v", c.kv_heads, "kv_heads")
    if c.qk_norm:
      q = RMSNorm(c.norm_eps, "head_norm", name="q_norm")(q)
      k = RMSNorm(c.norm_eps, "head_norm", name="k_norm")(k)
    q, k = rope.rotate(q, angle_BTK), rope.rotate(k, angle_BTK)
    keys, values, masks = [k], [v], [own_BTT]
    if cached is not None:
      keys_BSGK, values_BSGK, mask_BTS = cached
      keys, values, masks = [keys_BSGK, k], [values_BSGK, v], [mask_BTS, own_BTT]
    y = attend(q, keys, values, masks).reshape(*shape, c.heads * c.head_dim)
    y = Linear(c.width, ("heads", "embed"), dtype, scale=self.out_scale, name="out")(y)
    return y, (k, v)
