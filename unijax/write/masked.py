"""Masked tokens over codes: hidden codes are predicted from the others, all at once.

MaskGIT (Chang et al. 2022) inside a decoder that writes text token by token, as in
Show-o (Xie et al. 2024). The timestep of an image says what share of it is hidden:
sin(pi t / 2), the cosine schedule; the model is not told, since it can count.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unijax.config import Config
from unijax.diffusion import schedules
from unijax.types import Batch
from unijax.write import base, codes
from unijax.write.base import ImageLoss, Knobs, WritePath
from unijax.write.losses import Ask


def hidden_share(t):
  """The share of an image that is hidden at time t (Chang et al. 2022, section 3.3)."""
  return jnp.sin(t * (jnp.pi / 2))


def rank_in_image(span_BT, order_BT) -> jax.Array:
  """int32 [B, T]: how many positions of the same image have a smaller `order`."""
  index = jnp.arange(span_BT.shape[1], dtype=jnp.int32)
  sort = jnp.lexsort((order_BT, span_BT), axis=-1)
  span = jnp.take_along_axis(span_BT, sort, axis=1)
  new = jnp.pad(span[:, 1:] != span[:, :-1], ((0, 0), (1, 0)), constant_values=True)
  rank = index - jax.lax.cummax(jnp.where(new, index, 0), axis=1)
  return jnp.take_along_axis(rank, jnp.argsort(sort, axis=-1), axis=1)


def hide(config: Config, key, batch: Batch, share) -> jax.Array:
  """Draws what is hidden of images: bool [B, T].

  How many is exact, at least one; which, is drawn by the key of the image. An image
  whose noise limit is 0 stays whole.

  Args:
    share: (uniform number of each image, its noise limit) -> share that is hidden.
  """
  image, patch = base.image_keys(key, batch)
  limit = batch.noise_limit_BT
  number = share(base.each_position(base.uniform, image), limit)
  number = jnp.round(number * config.patches)
  number = jnp.where(limit > 0, jnp.maximum(number, 1), 0)
  order = base.each_position(base.uniform, patch)
  order = jnp.where(batch.patch_BT >= 0, order, jnp.inf)  # a frame is never hidden
  hidden = rank_in_image(batch.span_BT, order) < number
  return hidden & (batch.patch_BT >= 0)


def hidden_left(step, steps: int, count: int):
  """How many of `count` positions are hidden after step `step` of `steps`: the cosine
  schedule; at least one until the last step.

  A table in float32, in the order that releases compute it: where a product is whole,
  rounding decides.
  """
  done = np.arange(1, steps + 1).astype(np.float32) / np.float32(steps)
  number = np.floor(count * np.cos(done * np.float32(np.pi) * np.float32(0.5)))
  number = np.maximum(number, 1).astype(np.int32)
  number[-1] = 0
  return jnp.asarray(number)[step]


def noise_left(step, steps: int, decay: str):
  """The factor of the noise on confidence at step `step` of `steps`.

  Args:
    decay: linear, the share of steps that are left after it; or product, of these
      shares up to this step (Xie et al. 2024, whose sampler lowers it in place).
  """
  left = 1.0 - np.arange(1, steps + 1) / steps
  factor = np.cumprod(left) if decay == "product" else left
  return jnp.asarray(factor, jnp.float32)[step]


def hide_again(confidence, unknown, number) -> jax.Array:
  """What is hidden after a step: bool [B, P], the least confident of what was unknown.

  Args:
    confidence: [B, P] of the guesses.
    unknown: bool [B, P], before the step.
    number: to hide; at least one position is kept, where any was unknown.
  """
  confidence = jnp.where(unknown, confidence, jnp.inf)
  number = jnp.minimum(number, unknown.sum(axis=-1) - 1)[:, None]
  rank = jnp.argsort(jnp.argsort(confidence, axis=-1), axis=-1)
  return (rank < number) & unknown


class Masked(WritePath):
  """The state of a drawing is (codes with -1 where unknown, the last full guess)."""

  metric = "image_nll"

  # -- training ----------------------------------------------------------------------

  def corrupt(self, key, batch: Batch):
    """Hides codes. Returns (Inputs, bool [B, T] of what is hidden)."""
    hidden = hide(self.config, key, batch, self.share)
    tokens = jnp.where(hidden, self.mask_token, batch.tokens_BT)
    return base.row_inputs(self.config, batch, tokens, batch.patches_BTC), hidden

  def share(self, uniform, limit):
    """The share of an image that is hidden, from a uniform number and its limit."""
    return hidden_share(schedules.sample_time(self.config.diffusion, uniform) * limit)

  def asks(self, batch: Batch, truth):
    weight = batch.image_weight_BT * truth
    return {**super().asks(batch, truth), "image": Ask(batch.tokens_BT, weight)}

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    # Divided by all target positions, not the hidden ones: that needs no draw. With
    # uniform timesteps it is 2 / pi times the mean over what is hidden.
    nll, accuracy = sums["image"].nll, sums["image"].accuracy
    return ImageLoss(nll, {"image_nll": nll, "image_accuracy": accuracy})

  # -- sampling ----------------------------------------------------------------------

  def begin(self, caches, keys_B):
    del caches
    unknown = jnp.full((len(keys_B), self.config.patches), -1, jnp.int32)
    return unknown, jnp.zeros_like(unknown)

  def advance(self, model, params, caches, state, spans, keys_B, first, last, knobs):
    branches, framed = len(caches), int(self.config.framed)
    cache = base.join(caches, again=framed)  # BOI sees the image that it belongs to
    blank = base.block(self.config, spans, cache)
    here = slice(framed, framed + self.config.patches)

    def step(i, state):
      tokens = self.tokens(state[0])
      inputs = blank.replace(
        tokens_BT=blank.tokens_BT.at[:, here].set(jnp.concatenate([tokens] * branches)),
        patches_BTC=jnp.zeros((*blank.tokens_BT.shape, 0)),
      )

      def run(m):
        return m.code_logits(m.hidden(inputs, cache)[0][:, here], self.code_ids.pick)

      logits = model.apply({"params": params}, method=run)
      return self.guess(logits, branches, state[0], i, keys_B, knobs)

    return jax.lax.fori_loop(first, last, step, state)

  def tokens(self, known) -> jax.Array:
    """What the model reads of codes [B, P]: the mask token where they are unknown."""
    return jnp.where(known < 0, self.mask_token, self.code_ids.of(known))

  def guess(self, logits, branches: int, known, i, keys_B, knobs: Knobs):
    """Guesses all unknown codes and keeps the most confident of them.

    Chang et al. 2022, section 3.2. Confidence is the log-probability with Gumbel noise,
    which falls to 0 as `sample.confidence_decay` says. What is hidden again follows
    the schedule of training; at least one guess is kept, and all at the last step.

    Args:
      logits: of codes, float32 [rows, P, codebook] of all branches.
      known: int32 [B, P], -1 where unknown.
      i: number of the step.

    Returns:
      (what is known now, all guesses), both [B, P].
    """
    unknown, P = known < 0, known.shape[1]
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
    logits = codes.guided(logits, branches, knobs)
    guess = jnp.where(unknown, codes.draw(logits, keys, knobs), known)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    log_p = jnp.take_along_axis(log_p, guess[..., None], axis=-1)[..., 0]
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (P,)))(keys)
    left = noise_left(i, self.steps, self.config.sample.confidence_decay)
    confidence = log_p + knobs.confidence_noise * left * gumbel
    again = hide_again(confidence, unknown, hidden_left(i, self.steps, P))
    return jnp.where(again, -1, guess), guess
