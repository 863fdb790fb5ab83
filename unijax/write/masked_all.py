"""Masked tokens everywhere: text and image codes are hidden and filled alike.

MMaDA (Yang et al. 2025), on LLaDA (Nie et al. 2025): one mask token, each position is
predicted where it stands. Text stands in blocks of `model.text_block` positions
(`data.text_blocks`) that see all before them and themselves, so that a finished block
can be cached: block diffusion (Arriola et al. 2025).

What a block or an image is drawn from is clean, so it must be clean in training too.
Of each document one block or image is hidden in a step, drawn by its share of the
trained positions; its loss has one over that as a factor, so that the expected loss is
the sum over all. What follows it reads it hidden, and carries no loss.
"""

import jax
import jax.numpy as jnp

from unijax.types import FIRST_BLOCK, IMAGES_OF_A_DOCUMENT, Batch
from unijax.write import base
from unijax.write.losses import Ask
from unijax.write.masked import Masked, hide, rank_in_image


def changes(x_BT) -> jax.Array:
  """bool [B, T]: where a position differs from the one before it."""
  return jnp.pad(x_BT[:, 1:] != x_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True)


def begins(first_BT) -> jax.Array:
  """int32 [B, T]: where the stretch of each position begins."""
  index = jnp.arange(first_BT.shape[1], dtype=jnp.int32)
  return jax.lax.cummax(jnp.where(first_BT, index, 0), axis=1)


def before(x_BT, first_BT) -> jax.Array:
  """int32 [B, T]: the sum of x over the stretch of each position, up to before it."""
  x = x_BT.astype(jnp.int32)
  total = jnp.cumsum(x, axis=1) - x
  return total - jnp.take_along_axis(total, begins(first_BT), axis=1)


def over(x_BT, first_BT) -> jax.Array:
  """int32 [B, T]: the sum of x over the stretch that each position is in."""
  last = jnp.pad(first_BT[:, 1:], ((0, 0), (0, 1)), constant_values=True)
  index = jnp.arange(x_BT.shape[1], dtype=jnp.int32)
  far = jnp.where(last, index, x_BT.shape[1])
  end = jax.lax.cummin(far, axis=1, reverse=True)
  to_end = before(x_BT, first_BT) + x_BT.astype(jnp.int32)
  return jnp.take_along_axis(to_end, end, axis=1)


class MaskedAll(Masked):
  """`truth` is (the weight of each position's loss, what is hidden), both [B, T]."""

  def corrupt(self, key, batch: Batch):
    """Hides some of one block or one image of each document.

    A block of N positions has one to N of them hidden, each number as likely, and the
    factor N over that number: in expectation the likelihood of the block under random
    orders, an upper bound of its NLL (Hoogeboom et al. 2022, eq. 4).
    """
    chosen, factor = self.choose(key, batch)
    documents = document_keys(jax.random.fold_in(key, 2), batch)
    offset = before(jnp.ones_like(batch.span_BT), changes(batch.span_BT))
    keys = jax.vmap(jax.vmap(jax.random.fold_in))(documents, offset + 1)
    order = base.each_position(base.uniform, keys)
    N = self.config.text_block
    number = jnp.ceil(base.each_position(base.uniform, documents) * N)
    text = (batch.span_BT <= FIRST_BLOCK) & chosen
    text &= rank_in_image(batch.span_BT, order) < number
    image = hide(self.config, key, batch, self.share) & chosen
    hidden = text | image
    tokens = jnp.where(hidden, self.mask_token, batch.tokens_BT)
    weight = jnp.where(text, factor * N / number, jnp.where(image, factor, 0.0))
    inputs = base.row_inputs(self.config, batch, tokens, batch.patches_BTC)
    return inputs, (weight, hidden)

  def choose(self, key, batch: Batch):
    """Returns (bool [B, T] of the chosen block or image of each document; what its
    loss is multiplied by)."""
    trained = (batch.text_weight_BT > 0) | (batch.image_weight_BT > 0)
    document = changes(batch.segment_BT)
    unit = changes(batch.span_BT) | document
    keys = document_keys(jax.random.fold_in(key, 1), batch)
    total, size = over(trained, document), over(trained, unit)
    place = jnp.floor(base.each_position(base.uniform, keys) * total)
    place = jnp.minimum(place, total - 1)
    hit = trained & (before(trained, document) == place)
    factor = total / jnp.maximum(size, 1)
    return over(hit, unit) > 0, factor

  def asks(self, batch: Batch, truth):
    weight, _ = truth
    return {
      "text": Ask(batch.tokens_BT, batch.text_weight_BT * weight),
      "image": Ask(batch.tokens_BT, batch.image_weight_BT * weight),
    }


def document_keys(key, batch: Batch):
  """Keys of the document of every trained position, the same in any packing."""
  number = batch.image_key_BT // IMAGES_OF_A_DOCUMENT
  return jax.vmap(jax.vmap(lambda n: jax.random.fold_in(key, n)))(number)
