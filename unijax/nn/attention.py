"""Multi-head attention over the row's own positions and a cache of earlier ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from unijax.config import ModelConfig
from unijax.nn import rope
from unijax.nn.layers import Linear, RMSNorm

ATTENTION = "attention"  # what remat policies call the mixed values
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
  q = (q_BTHK * K**-0.5).reshape(B, T, G, H // G, K).transpose(0, 2, 3, 1, 4)
  if len(keys) == 1:
    out = _one_group(q, keys[0], values[0], masks[0])
  else:
    out = _several_groups(q, keys, values, masks)
  return out.transpose(0, 3, 1, 2, 4).reshape(B, T, H, K)


def _scores(q_BGRTK, key_BSGK, mask_BTS):
  scores = jnp.einsum(
    "bgrtk,bsgk->bgrts", q_BGRTK, key_BSGK, preferred_element_type=jnp.float32
  )
  return jnp.where(mask_BTS[:, None, None], scores, MASKED)


def _several_groups(q_BGRTK, keys, values, masks):
  scores = [_scores(q_BGRTK, k, m) for k, m in zip(keys, masks, strict=True)]
  top = jnp.max(jnp.stack([s.max(-1) for s in scores]), axis=0)[..., None]
  weights = [jnp.exp(s - jax.lax.stop_gradient(top)) for s in scores]
  total = sum(w.sum(-1, keepdims=True) for w in weights)
  out = sum(
    jnp.einsum("bgrts,bsgk->bgrtk", w.astype(q_BGRTK.dtype), value)
    for w, value in zip(weights, values, strict=True)
  )
  return out / total.astype(q_BGRTK.dtype)


@jax.custom_vjp
def _one_group(q_BGRTK, key_BSGK, value_BSGK, mask_BTS):
  """The same over one group, with a backward pass written out.

  The gradients of keys and values contract over queries; transposing the small queries
  for that, rather than the [T, S] weights as automatic differentiation does, made the
  backward pass a third faster on CPU.
  """
  return _one_group_forward(q_BGRTK, key_BSGK, value_BSGK, mask_BTS)[0]


def _one_group_forward(q, key, value, mask):
  weights = jax.nn.softmax(_scores(q, key, mask), axis=-1).astype(q.dtype)
  out = jnp.einsum("bgrts,bsgk->bgrtk", weights, value)
  return out, (q, key, value, weights)


def _one_group_backward(saved, d_out):
  q, key, value, weights = saved
  d_weights = jnp.einsum("bgrtk,bsgk->bgrts", d_out, value)
  inner = jnp.sum(d_weights * weights, axis=-1, keepdims=True, dtype=jnp.float32)
  d_scores = weights * (d_weights - inner.astype(q.dtype))
  d_q = jnp.einsum("bgrts,bsgk->bgrtk", d_scores, key)

  def over_queries(x_BGRTK, y_BGRTS):  # -> [B, S, G, K]
    x_BGRKT = x_BGRTK.swapaxes(-1, -2)
    return jnp.einsum("bgrkt,bgrts->bgks", x_BGRKT, y_BGRTS).transpose(0, 3, 1, 2)

  return d_q, over_queries(q, d_scores), over_queries(d_out, weights), None


_one_group.defvjp(_one_group_forward, _one_group_backward)


class Attention(nn.Module):
  """Self-attention with rotary positions, optional QK-norm and a read-only cache.

  Returns the mixed values and this call's keys and values [B, T, G, K]; whether
  they are committed to the cache is the caller's business.
  """

  config: ModelConfig
  out_scale: float

  @nn.compact
  def __call__(self, x_BTD, rotation, own_BTT, cached=None):
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
    q, k = rope.rotate(q, rotation), rope.rotate(k, rotation)
    keys, values, masks = [k], [v], [own_BTT]
    if cached is not None:
      keys_BSGK, values_BSGK, mask_BTS = cached
      keys, values, masks = [keys_BSGK, k], [values_BSGK, v], [mask_BTS, own_BTT]
    y = attend(q, keys, values, masks).reshape(*shape, c.heads * c.head_dim)
    y = checkpoint_name(y, ATTENTION)
    y = Linear(c.width, ("heads", "embed"), dtype, scale=self.out_scale, name="out")(y)
    return y, (k, v)
