"""Images written position by position, each from those before it.

Position t is predicted from the hidden state at t - 1: the first from BOI's. While an
image is drawn its keys and values go to a copy of the cache; afterwards the caller
commits the finished image like any other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unijax.config_writes import IMAGE_PLACES
from unijax.nn.cache import commit
from unijax.nn.model import Model
from unijax.types import Batch, Cache, Inputs
from unijax.write import base, codes, losses
from unijax.write.base import ImageLoss, Knobs, WritePath


class Writing(NamedTuple):
  """The state of a drawing."""

  x: jax.Array  # [B, P, C] or int32 [B, P]; zero where nothing is written yet
  cache: Cache  # of all branches, up to the position that is read next


class InOrder(WritePath):
  """A way that says, from one hidden state, what stands at the next position."""

  def __init__(self, config, vocab: int):
    super().__init__(config, vocab)
    self.places, self.inside = places(config)

  @property
  def steps(self) -> int:
    return int(self.places.argmax())  # positions before the last patch

  @property
  def stride(self) -> int:
    """Positions of a line of the raster."""
    return self.config.grid + len(self.config.image_tokens("line"))

  def blank(self, rows: int) -> jax.Array:
    """Images of which nothing is known."""
    return jnp.zeros((rows, self.config.patches, self.config.patch_channels))

  def choose(self, model: Model, params, h_BD, branches: int, key_B, knobs: Knobs):
    """Draws what stands after positions with the hidden states `h_BD` of all branches.

    Args:
      key_B: randomness of this position in each row.

    Returns:
      [B, C], or int32 [B] codes.
    """
    raise NotImplementedError

  def begin(self, caches, keys_B) -> Writing:
    # BOI is read again, for what it says of the first position.
    return Writing(self.blank(len(keys_B)), base.join(caches, again=1))

  def advance(self, model, params, caches, state, spans, keys_B, first, last, knobs):
    branches = len(caches)
    tokens = jnp.concatenate([s.tokens_BT for s in spans])
    position = jnp.concatenate([s.position_BTA for s in spans])
    patch_T, inside_T = jnp.asarray(self.places), jnp.asarray(self.inside)
    one = jnp.ones(tokens.shape[0], jnp.int32)

    def step(i, state: Writing):
      patch, wanted = patch_T[i], patch_T[i + 1]
      before = jnp.take(state.x, jnp.maximum(patch, 0), axis=1)
      before = jnp.concatenate([before] * branches)
      span = jnp.where(inside_T[i], 0, -1)
      index = state.cache.length_B
      inputs = self._one(tokens[:, i], before, position[:, i], patch, span, index)

      def run(m: Model):
        h_BTD, kv, _ = m.hidden(inputs, state.cache)
        return h_BTD[:, 0], kv

      h_BD, kv = model.apply({"params": params}, method=run)
      here = jnp.maximum(wanted, 0)
      keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, here)
      value = self.choose(model, params, h_BD, branches, keys, knobs)
      x = jnp.where(wanted >= 0, state.x.at[:, here].set(value), state.x)
      return Writing(x, commit(state.cache, kv, one))

    return jax.lax.fori_loop(first, last, step, state)

  def _one(self, token_B, before, position_BA, patch, span, index_B) -> Inputs:
    """Inputs of one position: the token there, or where `patch` is its number and not
    -1 the patch `before` of each row."""
    discrete = self.config.write.discrete
    code = self.code_ids.of(before) if discrete else jnp.zeros_like(token_B)
    patches = None if discrete else before[:, None]
    index = index_B[:, None]
    return Inputs(
      tokens_BT=jnp.where(patch < 0, token_B, code)[:, None],
      patches_BTC=jnp.zeros((*index.shape, 0)) if discrete else patches,
      time_BT=None,
      span_BT=jnp.broadcast_to(span, index.shape),
      patch_BT=jnp.broadcast_to(patch, index.shape),
      position_BTA=position_BA[:, None],
      index_BT=index,
      start_BT=jnp.zeros_like(index),
      end_BT=index,
    )

  def look(self, state: Writing):
    return state.x


class Codes(InOrder):
  """Next token over codes: one softmax for text and images.

  Chameleon section 2 (Chameleon Team 2024), Emu3 (Wang et al. 2024). The loss of codes
  is summed and weighted apart from that of text.
  """

  metric = "image_nll"

  def asks(self, batch: Batch, truth):
    asks = super().asks(batch, truth)
    return {**asks, "image": losses.next_token(batch, batch.image_weight_BT)}

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    nll, accuracy = sums["image"].nll, sums["image"].accuracy
    return ImageLoss(nll, {"image_nll": nll, "image_accuracy": accuracy})

  def blank(self, rows: int):
    return jnp.zeros((rows, self.config.patches), jnp.int32)

  def choose(self, model, params, h_BD, branches, key_B, knobs):
    logits = model.apply(
      {"params": params}, h_BD, self.code_ids.pick, method=model.code_logits
    )
    return codes.draw(codes.guided(logits, branches, knobs), key_B, knobs)


def places(config) -> tuple[np.ndarray, np.ndarray]:
  """What stands at BOI and at each position of an image after it.

  Returns:
    (number of the patch, -1 where a token stands: int32 [1 + positions]; whether it is
    in the span of the image: bool, likewise).
  """
  opened, line, closed = (len(config.image_tokens(x)) for x in IMAGE_PLACES)
  lines = np.full((config.grid, config.grid + line), -1, np.int32)
  lines[:, : config.grid] = np.arange(config.patches).reshape(config.grid, -1)
  outside = (1 + opened, closed)
  inside = np.pad(np.ones(lines.size, bool), outside)
  return np.pad(lines.reshape(-1), outside, constant_values=-1), inside


def shifted(h_BTD) -> jax.Array:
  """Hidden states moved one position on: at t stands what predicts t."""
  return jnp.pad(h_BTD[:, :-1], ((0, 0), (1, 0), (0, 0)))
