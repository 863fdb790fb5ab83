"""Contrastive losses over a whole batch, divided over devices, a part at a time.

Rows are pictures and columns are texts; row i and column i belong together. A device
holds the similarities of its own rows with all columns, [B / devices / chunks, B] at
a time. Columns are gathered; what is summed over rows (the normalisers of columns)
crosses devices as B numbers. It is the formula over the whole batch on any mesh.

Pairs with the same text are no negatives of each other: their similarity is left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unijax.nn import logical
from unijax.types import Sum

LEFT_OUT = -1e30  # finite, so that no difference of infinities is taken


def similarity(image_BQE: jax.Array, text_CE: jax.Array) -> jax.Array:
  """Cosines of unit vectors, float32 [B, C]; the best of a picture's Q vectors counts.

  Li et al. 2023, section 3.1; with one vector a picture, the plain product.
  """
  image, text = image_BQE.astype(jnp.float32), text_CE.astype(jnp.float32)
  return jnp.einsum("bqe,ce->bcq", image, text).max(axis=-1)


class Part(NamedTuple):
  """Some rows of the matrix of similarities.

  Attributes:
    cosine_RB: float32.
    own_RB: bool, the pair that belongs together.
    counts_RB: bool, what is no other pair with the same text.
  """

  cosine_RB: jax.Array
  own_RB: jax.Array
  counts_RB: jax.Array


def _over_rows(function: Callable, start, image_BQE, text_BE, caption_B, chunks: int):
  """Folds `function(carry, Part) -> carry` over the rows, a part of them at a time."""
  rows = jnp.arange(caption_B.shape[0])
  text = logical.constrain(text_BE, None, None)  # every device needs all columns

  def one(carry, chunk):
    image, number, caption = chunk
    cosine = logical.constrain(similarity(image, text), "batch", None)
    own = number[:, None] == rows
    counts = own | (caption[:, None] != caption_B)
    return function(carry, Part(cosine, own, counts)), None

  whole = (image_BQE, rows, caption_B)
  if chunks == 1:
    return one(start, whole)[0]

  def split(x):  # a part has rows from all over, so that each device has its share
    return jnp.moveaxis(x.reshape(-1, chunks, *x.shape[1:]), 1, 0)

  return jax.lax.scan(jax.checkpoint(one), start, jax.tree.map(split, whole))[0]


class Softmax(NamedTuple):
  """Sums of the softmax loss; each is over 2 B choices, both ways."""

  nll: Sum
  accuracy: Sum


def softmax_loss(
  image_BQE, text_BE, caption_B, scale: jax.Array, chunks: int = 1
) -> Softmax:
  """Symmetric cross-entropy of picture among texts and text among pictures.

  Radford et al. 2021, figure 3; the loss is the mean over both directions.

  Args:
    image_BQE, text_BE: unit vectors.
    caption_B: identity of each text.
    scale: that similarities are multiplied by, the inverse temperature.
    chunks: parts that rows are taken in; must divide B.
  """
  size = caption_B.shape[0]
  nothing = jnp.full((size,), LEFT_OUT)
  zero = jnp.zeros(())
  start = (nothing, nothing, nothing, zero, zero)

  def fold(carry, part: Part):
    column_z, column_top, column_own, value, right = carry
    logits = jnp.where(part.counts_RB, scale * part.cosine_RB, LEFT_OUT)
    own = jnp.where(part.own_RB, logits, 0.0).sum(axis=-1)
    value += (jax.nn.logsumexp(logits, axis=-1) - own).sum() - own.sum()
    right += (own >= logits.max(axis=-1)).sum()
    column_z = jnp.logaddexp(column_z, jax.nn.logsumexp(logits, axis=0))
    still = jax.lax.stop_gradient(logits)
    column_top = jnp.maximum(column_top, still.max(axis=0))
    mine = jnp.where(part.own_RB, still, LEFT_OUT).max(axis=0)
    return column_z, column_top, jnp.maximum(column_own, mine), value, right

  z, top, own, value, right = _over_rows(
    fold, start, image_BQE, text_BE, caption_B, chunks
  )
  total = jnp.asarray(2.0 * size)
  right = jax.lax.stop_gradient(right + (own >= top).sum())
  return Softmax(Sum(value + z.sum(), total), Sum(right, total))


def sigmoid_loss(
  image_BQE, text_BE, caption_B, scale: jax.Array, bias: jax.Array, chunks: int = 1
) -> Sum:
  """Every pair of picture and text is a question of its own: do they belong together?

  Zhai et al. 2023, section 3.2: -sum_ij log sigmoid(z_ij (scale x_i.y_j + bias)) / B,
  with z = 1 where i = j and -1 elsewhere.

  Args:
    image_BQE, text_BE, caption_B, scale, chunks: as in `softmax_loss`.
    bias: added to every logit.
  """

  def fold(value, part: Part):
    logits = scale * part.cosine_RB + bias
    signed = jnp.where(part.own_RB, logits, -logits)
    losses = jnp.where(part.counts_RB, -jax.nn.log_sigmoid(signed), 0.0)
    return value + losses.sum()

  value = _over_rows(fold, jnp.zeros(()), image_BQE, text_BE, caption_B, chunks)
  return Sum(value, jnp.asarray(float(caption_B.shape[0])))


def hard_negatives(
  image_BQE, text_BE, caption_B, scale, key: jax.Array, key_B: jax.Array
):
  """Draws for each picture a wrong text, and for each text a wrong picture.

  The likelier they are taken for right, the likelier they are drawn: from the softmax
  of the similarities without the true ones (Li et al. 2021, section 3.2).

  Args:
    image_BQE, text_BE, caption_B, scale: as in `softmax_loss`.
    key: of this step.
    key_B: identity of each pair, which its draw depends on.

  Returns:
    (text_B, image_B, exists_B): int32 numbers of the drawn ones; False where the batch
    has no other text, and what was drawn is not wrong.
  """
  text = logical.constrain(text_BE, None, None)
  cosine = logical.constrain(similarity(image_BQE, text), "batch", None)
  other = caption_B[:, None] != caption_B
  logits = jnp.where(other, scale * cosine, LEFT_OUT)

  def noise(number: int):
    side = jax.random.fold_in(key, number)

    def draw(k):
      return jax.random.gumbel(jax.random.fold_in(side, k), caption_B.shape)

    return jax.vmap(draw)(key_B)

  text_B = jnp.argmax(logits + noise(0), axis=1)
  image_B = jnp.argmax(logits + noise(1).T, axis=0)
  return text_B, image_B, other.any(axis=1)
