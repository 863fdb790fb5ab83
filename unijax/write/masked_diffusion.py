"""Masked patches with a diffusion head: several are drawn at once, in random order.

MAR (Li et al. 2024): the backbone reads the patches that are known and a learned vector
where one is hidden, all of an image at once; from the hidden state of each hidden patch
a small head draws it by diffusion, independently of the others of the same step.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from unijax.nn.model import Model
from unijax.types import Batch, Inputs
from unijax.write import base, token_diffusion
from unijax.write.base import ImageLoss, Knobs, WritePath
from unijax.write.masked import hidden_left, hide
from unijax.write.token_diffusion import Noised


class Truth(NamedTuple):
  """What the loss must know."""

  hidden_BT: jax.Array
  noised: Noised


class MaskedDiffusion(WritePath):
  """The state of a drawing is (patches, 0 where unknown; bool [B, P] of what is)."""

  metric = "image_mse"

  # -- training ----------------------------------------------------------------------

  def corrupt(self, key, batch: Batch):
    """Hides patches. Returns (Inputs, in which hidden patches have time 1; Truth)."""
    hidden = hide(self.config, jax.random.fold_in(key, 1), batch, self.share)
    patches = jnp.where(hidden[..., None], 0.0, batch.patches_BTC)
    time = hidden.astype(jnp.float32)
    inputs = base.row_inputs(self.config, batch, batch.tokens_BT, patches, time)
    noised = token_diffusion.noise(self.config, key, batch)
    return inputs, Truth(hidden, noised)

  def share(self, uniform, limit):
    """The left half of a normal law around 1, cut off at `train.hidden_min` (Li et al.
    2024, section 5), times the limit."""
    t = self.config.train
    low = special.ndtr((t.hidden_min - 1.0) / t.hidden_std)
    normal = special.ndtri(low + uniform * (0.5 - low))
    return limit * (1.0 + t.hidden_std * normal)

  def heads(self, model: Model, inputs: Inputs, truth: Truth):
    h_BTD = model.hidden(inputs)[0]
    return h_BTD, token_diffusion.denoised(model, h_BTD, truth.noised)

  def image_loss(self, output, sums, inputs, truth: Truth, batch) -> ImageLoss:
    # Divided by all target positions, not the hidden ones: that needs no draw.
    weight = batch.image_weight_BT * truth.hidden_BT
    return token_diffusion.denoising_loss(
      self.config, output, truth.noised, batch, weight
    )

  # -- sampling ----------------------------------------------------------------------

  def times(self, config):
    return token_diffusion.token_times(config)

  @functools.cached_property
  def left(self) -> np.ndarray:
    """int32 [steps + 1]: hidden patches before the first step and after each, at least
    one less in every step."""
    found = [self.config.patches]
    with jax.ensure_compile_time_eval():
      wanted = hidden_left(jnp.arange(self.steps), self.steps, self.config.patches)
    for number in np.asarray(wanted):
      found.append(max(min(number, found[-1] - 1), 0))
    return np.array(found, np.int32)

  def begin(self, caches, keys_B):
    del caches
    P, C = self.config.patches, self.config.patch_channels
    B = len(keys_B)
    return jnp.zeros((B, P, C)), jnp.zeros((B, P), bool)

  def order(self, keys_B) -> jax.Array:
    """int32 [B, P]: the order in which the patches of each image are drawn."""
    P = self.config.patches
    shuffle = lambda key: jax.random.permutation(jax.random.fold_in(key, P), P)  # noqa: E731
    return jax.vmap(shuffle)(keys_B)

  def advance(self, model, params, caches, state, spans, keys_B, first, last, knobs):
    branches, cache = len(caches), base.join(caches)
    blank = base.block(self.config, spans, cache)

    def step(i, state):
      x, known = (jnp.concatenate([y] * branches) for y in state)
      time = 1.0 - known.astype(jnp.float32)
      inputs = blank.replace(patches_BTC=x, time_BT=time)
      run = lambda m: m.hidden(inputs, cache)[0]  # noqa: E731
      h_RPD = model.apply({"params": params}, method=run)
      return self.reveal(model, params, h_RPD, branches, state, i, keys_B, knobs)

    return jax.lax.fori_loop(first, last, step, state)

  def reveal(
    self, model, params, h_RPD, branches: int, state, i, keys_B, knobs: Knobs
  ):  # fmt: skip
    """Draws the patches whose turn it is in step i.

    Args:
      h_RPD: hidden states of the images of all branches, [branches * B, P, D].
      state: before the step.
    """
    x, known = state
    B, P, C = x.shape
    most = int(-np.diff(self.left).min())  # as many are drawn in every step
    left = jnp.asarray(self.left)
    turn = P - left[i] + jnp.arange(most)
    where_BK = self.order(keys_B)[:, jnp.minimum(turn, P - 1)]
    where_RK = jnp.concatenate([where_BK] * branches)
    h = jnp.take_along_axis(h_RPD, where_RK[..., None], axis=1)
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys_B, where_BK)
    drawn = token_diffusion.draw(
      self.config, model, params, h.reshape(-1, h.shape[-1]), branches,
      keys.reshape(-1), knobs,
    )  # fmt: skip
    # What is drawn beyond the step's number goes nowhere.
    where_BK = jnp.where(turn < P - left[i + 1], where_BK, P)
    row = jnp.arange(B)[:, None]
    x = x.at[row, where_BK].set(drawn.reshape(B, most, C), mode="drop")
    return x, known.at[row, where_BK].set(True, mode="drop")

  def look(self, state) -> jax.Array:
    return state[0]
