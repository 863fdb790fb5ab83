"""One mask for everything: each query sees the interval [start, end] of its row.

  start = first position of its document
  end   = itself, or inside a bidirectional image, or a block of text, its last position
          (spans that include BOI and EOI make these a part of the image)

Packing, causality and images are all in these two integers a query, so a fast
kernel never needs a [T, S] mask and the dense reference is one comparison.

One thing is no interval: a noised copy of an image in front of its clean copy, which
nothing outside of it sees. `hidden` marks its positions, and the dense form alone
takes it.
"""

import jax
import jax.numpy as jnp

from unijax.config import ConfigError


class MaskUnsupportedError(ConfigError):
  """A named attention back end cannot compute these intervals exactly."""


def intervals(span_BT, segment_BT, image_mask: str) -> tuple[jax.Array, jax.Array]:
  """Returns (start_BT, end_BT), int32, both inclusive.

  Args:
    span_BT: image number; -1 is plain text, blocks of text are below.
    segment_BT: document number; 0 is padding, which sees only itself.
    image_mask: 'causal', or both ways in a span, which is an image, with what frames it
      where rows have it so ('framed'), or a block of text.
  """
  index = jnp.broadcast_to(jnp.arange(span_BT.shape[1], dtype=jnp.int32), span_BT.shape)

  def changes(x_BT):  # True where a position differs from the one before it
    return jnp.pad(x_BT[:, 1:] != x_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True)

  new_document = changes(segment_BT)
  start = jax.lax.cummax(jnp.where(new_document, index, 0), axis=1)
  end = index
  if image_mask != "causal":
    first = changes(span_BT) | new_document
    last = jnp.pad(first[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    far = jnp.where(last, index, span_BT.shape[1])
    span_end = jax.lax.cummin(far, axis=1, reverse=True)
    end = jnp.where(span_BT != -1, span_end, index)
  padding = segment_BT == 0
  return jnp.where(padding, index, start), jnp.where(padding, index, end)


def hidden_spans(span_BT, hidden_BT) -> jax.Array | None:
  """Returns int32 [B, T]: the image number in hidden images, -1 elsewhere.

  Args:
    span_BT: image number, -1 outside images.
    hidden_BT: bool, or None where rows hide nothing, which gives None.
  """
  return None if hidden_BT is None else jnp.where(hidden_BT, span_BT, -1)


def allowed(start_BT, end_BT, key_index_BS, hidden_BT=None) -> jax.Array:
  """The dense form: bool [B, T, S], True where the query sees the key.

  Args:
    start_BT, end_BT: the interval of each query.
    key_index_BS: where the keys stand.
    hidden_BT: of `hidden_spans`, where keys are those of the queries' positions: a
      hidden image is seen by its own positions alone.
  """
  key = key_index_BS[:, None, :]
  seen = (start_BT[:, :, None] <= key) & (key <= end_BT[:, :, None])
  if hidden_BT is None:
    return seen
  query, key = hidden_BT[:, :, None], hidden_BT[:, None, :]
  return seen & ((key < 0) | (key == query))


def shown(start_BT, end_BT, hidden_BT=None) -> jax.Array:
  """How many keys each query of whole rows sees, int32: `allowed`, summed over keys."""
  count = end_BT - start_BT + 1
  if hidden_BT is None:
    return count
  hidden = hidden_BT >= 0
  index = jnp.arange(hidden.shape[1], dtype=jnp.int32)
  total = jnp.cumsum(hidden, axis=1)
  at = lambda x, where: jnp.take_along_axis(x, where, axis=1)  # noqa: E731
  between = at(total, end_BT) - at(total, start_BT) + at(hidden, start_BT)
  changes = jnp.diff(hidden_BT, axis=1, prepend=-1) != 0
  first = jax.lax.cummax(jnp.where(changes, index, 0), axis=1)
  return count - between + jnp.where(hidden, end_BT - first + 1, 0)


def scheduled(start_BT, end_BT, lookahead: int) -> jax.Array:
  """Whether intervals are of the kind that kernels rely on: bool [B], one a row.

  They are where documents are contiguous (every query starts where its neighbour on
  the left does, or at itself) and each interval ends in its own document, at most
  `lookahead` positions after the query. `intervals` makes no others.
  """
  index = jnp.arange(start_BT.shape[1], dtype=jnp.int32)
  left = jnp.pad(start_BT[:, :-1], ((0, 0), (1, 0)))
  contiguous = (start_BT == left) | (start_BT == index)
  same_document = jnp.take_along_axis(start_BT, end_BT, axis=1) == start_BT
  near = (start_BT <= end_BT) & (end_BT <= index + lookahead)
  return (contiguous & same_document & near).all(axis=1)
