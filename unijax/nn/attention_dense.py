"""Softmax attention with all scores at once: what any back end of JAX can do."""

import jax
import jax.numpy as jnp

LONG_CALL = 128  # positions of one with a cache from which its emptiness is asked after
MASKED = -1e30  # finite, so that a query that sees nothing gives no NaN


def attend(q_BTHK, k_BSGK, v_BSGK, mask_BTS, cached=None) -> jax.Array:
  """Softmax attention over keys and, as if they were one, those of a cache.

  Args:
    q_BTHK: queries, H = G * (queries a key head).
    k_BSGK, v_BSGK: keys and values.
    mask_BTS: bool, True where the query sees the key.
    cached: (keys_BGSK, values_BGSK, mask_BTS) of another S, or None. Keeping the two
      apart saves copying the cache.

  Returns:
    [B, T, H, K] in the dtype of q. Scores and softmax are float32.
  """
  B, T, H, K = q_BTHK.shape
  q = _by_group(q_BTHK, k_BSGK.shape[2])
  if cached is None:
    out = _one_group(q, k_BSGK, v_BSGK, mask_BTS)
  else:
    out = _with_cache(q, k_BSGK, v_BSGK, mask_BTS, cached)
  return out.transpose(0, 3, 1, 2, 4).reshape(B, T, H, K)


def _by_group(q_BTHK, groups: int):
  """Queries, scaled, by the key head that they meet: [B, G, R, T, K]."""
  B, T, H, K = q_BTHK.shape
  q = (q_BTHK * K**-0.5).reshape(B, T, groups, H // groups, K)
  return q.transpose(0, 2, 3, 1, 4)


def _scores(q_BGRTK, key_BGSK, mask_BTS):
  scores = jnp.einsum(
    "bgrtk,bgsk->bgrts", q_BGRTK, key_BGSK, preferred_element_type=jnp.float32
  )
  return jnp.where(mask_BTS[:, None, None], scores, MASKED)


def attention_weights(q_BTHK, k_BTGK, mask_BTT) -> jax.Array:
  """What each query of whole rows takes of each key, to be looked at.

  Returns:
    float32 [B, H, T, T], the softmax of scores over keys; zero where the mask hides,
    and all of it for a query that sees nothing.
  """
  B, T, H, _ = q_BTHK.shape
  q_BGRTK = _by_group(q_BTHK, k_BTGK.shape[2])
  scores = _scores(q_BGRTK, k_BTGK.swapaxes(1, 2), mask_BTT)
  weights = jax.nn.softmax(scores, axis=-1)
  return jnp.where(mask_BTT[:, None], weights.reshape(B, H, T, T), 0)


def _with_cache(q_BGRTK, k_BSGK, v_BSGK, mask_BTS, cached):
  """Over both; a call of many positions asks first whether the cache holds any."""

  def over(slots: int):
    keys, values = (x_BGSK[:, :, :slots] for x_BGSK in cached[:2])
    past = _scores(q_BGRTK, keys, cached[2][..., :slots])
    own = _scores(q_BGRTK, k_BSGK.swapaxes(1, 2), mask_BTS)
    top = jnp.maximum(past.max(-1), own.max(-1))[..., None]
    top = jax.lax.stop_gradient(top)
    past, own = jnp.exp(past - top), jnp.exp(own - top)
    total = past.sum(-1, keepdims=True) + own.sum(-1, keepdims=True)
    past, own, total = (x.astype(q_BGRTK.dtype) for x in (past, own, total))
    out = jnp.einsum("bgrts,bgsk->bgrtk", past, values)
    return (out + jnp.einsum("bgrts,bsgk->bgrtk", own, v_BSGK)) / total

  slots = cached[0].shape[2]
  if q_BGRTK.shape[3] < LONG_CALL:
    return over(slots)
  # A hidden key weighs exactly nothing: with one of them the numbers are the same.
  return jax.lax.cond(cached[2].any(), lambda: over(slots), lambda: over(1))


@jax.custom_vjp
def _one_group(q_BGRTK, key_BSGK, value_BSGK, mask_BTS):
  """The same over one group, with a backward pass written out.

  The gradients of keys and values contract over queries; transposing the small queries
  for that, rather than the [T, S] weights as automatic differentiation does, made the
  backward pass a third faster on CPU.
  """
  return _one_group_forward(q_BGRTK, key_BSGK, value_BSGK, mask_BTS)[0]


def _one_group_forward(q, key, value, mask):
  scores = _scores(q, key.swapaxes(1, 2), mask)
  weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
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
