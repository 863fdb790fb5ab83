"""Features written one by one, each regressed from what stands before it.

Emu2 (Sun et al. 2024) regresses the features of an encoder with a squared error,
MetaMorph (Tong et al. 2024) their direction with a cosine. There is nothing random in
it: a position gets the mean of what may stand there, and what is drawn is as sharp as
the decoder of the codec makes it. The cosine says nothing of a length, so that what it
trained is drawn with that of numbers of unit variance, which latents of a codec have.
"""

import jax
import jax.numpy as jnp

from unijax.types import Batch, Sum
from unijax.write.base import ImageLoss
from unijax.write.in_order import InOrder, shifted


def squared(prediction, target) -> jax.Array:
  """[..., C] twice -> [...], a mean over the channels."""
  return jnp.square(prediction - target).mean(axis=-1)


def cosine(prediction, target) -> jax.Array:
  """1 - cosine of the angle, 0 to 2; the length of neither vector matters."""
  product = (prediction * target).sum(axis=-1)
  lengths = jnp.square(prediction).sum(axis=-1) * jnp.square(target).sum(axis=-1)
  return 1.0 - product * jax.lax.rsqrt(lengths + 1e-12)


def unit_variance(x) -> jax.Array:
  """[..., C] of length sqrt(C)."""
  return x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-12)


# The error, and what a prediction becomes where it is drawn.
REGRESSIONS = {"squared": (squared, lambda x: x), "cosine": (cosine, unit_variance)}


class Regression(InOrder):
  """The image head says the next patch itself."""

  metric = "image_error"

  def heads(self, model, inputs, truth):
    h_BTD = model.hidden(inputs)[0]
    return h_BTD, model.image_head(shifted(h_BTD))

  def image_loss(self, output, sums, inputs, truth, batch: Batch) -> ImageLoss:
    error, _ = REGRESSIONS[self.config.train.regression]
    weight = batch.image_weight_BT
    total = (error(output, batch.patches_BTC) * weight).sum()
    loss = Sum(total, weight.sum())
    return ImageLoss(loss, {self.metric: loss})

  def choose(self, model, params, h_BD, branches, key_B, knobs):
    x = model.apply({"params": params}, h_BD, method=lambda m, h: m.image_head(h))
    if branches == 2:
      conditional, unconditional = jnp.split(x, 2)
      x = unconditional + knobs.guidance * (conditional - unconditional)
    _, finish = REGRESSIONS[self.config.train.regression]
    return finish(x)
