"""A bridge: hidden states at slots condition a diffusion transformer of their own.

The decoder reads clean images and never a noised one. Between BOI and an image stand
`bridge.slots` tokens, which see what is before them; from their hidden states the
external decoder draws the image. They are learned queries (`bridge.signal_weight` 0:
DreamLLM, Dong et al. 2024; MetaQuery, Pan et al. 2025), or signal tokens that the model
is also trained to write (NExT-GPT, Wu et al. 2024). In guidance the unconditional
branch is what the slots say without text (DreamLLM), not a null vector.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unijax.diffusion import process, schedules
from unijax.nn.model import Model
from unijax.types import Batch, Inputs
from unijax.write import base, losses
from unijax.write.base import ImageLoss
from unijax.write.diffusion import Diffusion, noise, solve


class Noised(NamedTuple):
  """What the external decoder is shown, at image positions."""

  patches_BTC: jax.Array
  time_BT: jax.Array
  epsilon_BTC: jax.Array


class Places(NamedTuple):
  """Where the images of each row and their slots stand; made up where there is none."""

  slot_BIN: jax.Array
  patch_BIP: jax.Array


def places(inputs: Inputs, images: int, slots: int, patches: int) -> Places:
  """Finds up to `images` images a row; their slots stand right before them."""
  number = jnp.arange(images)[:, None]
  first = (inputs.span_BT[:, None] == number) & (inputs.patch_BT[:, None] == 0)
  start_BI1 = jnp.argmax(first, axis=-1)[..., None]
  end = inputs.span_BT.shape[1] - 1
  return Places(
    jnp.clip(start_BI1 - slots + jnp.arange(slots), 0, end),
    jnp.clip(start_BI1 + jnp.arange(patches), 0, end),
  )


def gather(x_BTF, index_BIS) -> jax.Array:
  """Positions of a row as images: [B, T, F] -> [B * I, S, F]."""
  B, I, S = index_BIS.shape
  y = jnp.take_along_axis(x_BTF, index_BIS.reshape(B, I * S, 1), axis=1)
  return y.reshape(B * I, S, -1)


class Bridged(Diffusion):
  """The state of a drawing is (x, the last prediction of the clean image)."""

  def corrupt(self, key, batch: Batch):
    """Returns (clean Inputs, Noised)."""
    d = self.config.diffusion
    uniform_BT, epsilon_BTC = noise(key, batch)
    time_BT = schedules.sample_time(d, uniform_BT)
    x_BTC = process.corrupt(d.path, batch.patches_BTC, epsilon_BTC, time_BT)
    inputs = base.row_inputs(self.config, batch, batch.tokens_BT, batch.patches_BTC)
    return inputs, Noised(x_BTC, time_BT, epsilon_BTC)

  def heads(self, model: Model, inputs: Inputs, truth: Noised):
    h_BTD = model.hidden(inputs)[0]
    I, P = self.config.data.images_per_row, self.config.patches
    where = places(inputs, I, self.config.slots, P)
    condition = model.bridge.condition(gather(h_BTD, where.slot_BIN))
    time = gather(truth.time_BT[..., None], where.patch_BIP)[:, 0, 0]
    x = gather(truth.patches_BTC, where.patch_BIP)
    out = model.bridge.predict(x, time, condition)
    # Back to positions; what stands elsewhere has no weight.
    place = jnp.maximum(inputs.span_BT, 0) * P + jnp.maximum(inputs.patch_BT, 0)
    out = out.reshape(h_BTD.shape[0], I * P, -1)
    return h_BTD, jnp.take_along_axis(out, place[..., None], axis=1)

  def image_loss(self, output, sums, inputs, truth: Noised, batch) -> ImageLoss:
    d, (x, time, epsilon) = self.config.diffusion, truth
    space = d.predict if d.loss_target == "same" else d.loss_target
    prediction = process.convert(d.path, d.predict, space, output, x, time)
    target = process.to_kind(d.path, space, batch.patches_BTC, epsilon, time)
    mse, levels = losses.image_mse(prediction, target, time, batch)
    return ImageLoss(mse, {"image_mse": mse, "image_mse_by_noise": levels})

  def advance(self, model, params, caches, state, spans, keys_B, first, last, knobs):
    cache = base.join(caches)
    inputs = self._slots(spans, cache)

    def condition(m: Model):
      return m.bridge.condition(m.hidden(inputs, cache)[0])

    said = model.apply({"params": params}, method=condition)
    branches = len(caches)
    return self.draw(model, params, said, branches, state, keys_B, first, last, knobs)

  def draw(self, model, params, said, branches, state, keys_B, first, last, knobs):
    """`advance`, from what the slots of all branches said: a Condition."""
    d = self.config.diffusion

    def clean(x, t):
      run = lambda m: m.bridge.predict(x, t, said)  # noqa: E731
      out = model.apply({"params": params}, method=run)
      return process.from_kind(d.path, d.predict, out, x, t[:, None])[0]

    return solve(self.config, clean, branches, state, keys_B, first, last, knobs)

  def _slots(self, spans, cache) -> Inputs:
    """The slots of every row and branch after BOI: text, which sees no picture."""
    here = slice(1, 1 + self.config.slots)
    tokens = jnp.concatenate([s.tokens_BT[:, here] for s in spans])
    index = cache.length_B[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)
    outside = jnp.full_like(tokens, -1)
    return Inputs(
      tokens_BT=tokens,
      patches_BTC=None,
      time_BT=None,
      span_BT=outside,
      patch_BT=outside,
      position_BTA=jnp.concatenate([s.position_BTA[:, here] for s in spans]),
      index_BT=index,
      start_BT=jnp.zeros_like(index),
      end_BT=index,
    )
