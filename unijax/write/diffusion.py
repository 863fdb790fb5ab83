"""Diffusion in the backbone: images are noised as a whole and denoised as a block.

Each image has one timestep; the model predicts all of its patches at once, reading the
noised ones. Transfusion section 3 (Zhou et al. 2024).
"""

import functools

import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.diffusion import guidance, process, samplers, schedules
from unijax.nn.model import Model
from unijax.types import Batch, Inputs
from unijax.write import base, losses
from unijax.write.base import ImageLoss, WritePath


def noise(key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
  """Draws per-image uniforms and per-patch Gaussians.

  Returns:
    (uniform_BT in (0, 1), equal over each image; epsilon_BTC).
  """
  shape = batch.patches_BTC.shape[-1:]

  def one(image_key, patch):
    image = jax.random.fold_in(key, image_key)
    patch = jax.random.fold_in(image, patch + 1)
    return base.uniform(image), jax.random.normal(patch, shape)

  return jax.vmap(jax.vmap(one))(batch.image_key_BT, batch.patch_BT)


def picture_noise(key: jax.Array, image_key_B, shape: tuple[int, ...]):
  """The same for whole pictures, one a row, with patches in raster order.

  Args:
    key: of the step.
    image_key_B: identities of the pictures.
    shape: (patches, channels).

  Returns:
    (uniform_B, epsilon_BPC).
  """

  def one(image_key):
    image = jax.random.fold_in(key, image_key)
    patch = jax.vmap(jax.random.fold_in, (None, 0))(image, 1 + jnp.arange(shape[0]))
    normal = jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(patch)
    return base.uniform(image), normal

  return jax.vmap(one)(image_key_B)


def corrupt(config: Config, key: jax.Array, batch: Batch):
  """Noises a batch.

  Returns:
    (Inputs for the model, epsilon_BTC). Each image's timestep is drawn by the law of
    the config and scaled by its noise limit.
  """
  uniform_BT, epsilon_BTC = noise(key, batch)
  is_image = batch.span_BT >= 0
  time_BT = schedules.sample_time(config.diffusion, uniform_BT) * batch.noise_limit_BT
  time_BT = jnp.where(is_image, time_BT, 0.0)
  noised_BTC = process.corrupt(
    config.diffusion.path, batch.patches_BTC, epsilon_BTC, time_BT
  )
  noised_BTC = jnp.where((batch.patch_BT >= 0)[..., None], noised_BTC, 0.0)
  inputs = base.row_inputs(config, batch, batch.tokens_BT, noised_BTC, time_BT)
  return inputs, epsilon_BTC


class Diffusion(WritePath):
  """The state of a drawing is (x, the last prediction of the clean image)."""

  metric = "image_mse"

  def corrupt(self, key, batch: Batch):
    return corrupt(self.config, key, batch)

  def heads(self, model: Model, inputs: Inputs, truth):
    h_BTD, _, context = model.hidden(inputs)
    return h_BTD, model.prediction(h_BTD, inputs, context)

  def image_loss(self, output, sums, inputs: Inputs, truth, batch: Batch) -> ImageLoss:
    d, time_BT = self.config.diffusion, inputs.time_BT
    space = d.predict if d.loss_target == "same" else d.loss_target
    prediction = process.convert(
      d.path, d.predict, space, output, inputs.patches_BTC, time_BT
    )
    target = process.to_kind(d.path, space, batch.patches_BTC, truth, time_BT)
    mse, levels = losses.image_mse(prediction, target, time_BT, batch)
    return ImageLoss(mse, {"image_mse": mse, "image_mse_by_noise": levels})

  def times(self, config: Config):
    return schedules.sampler_times(config.diffusion, config.sample, config.patches)

  def begin(self, caches, keys_B):
    del caches
    shape = (self.config.patches, self.config.patch_channels)
    x = jax.vmap(lambda key: jax.random.normal(key, shape))(keys_B)
    return x, jnp.zeros_like(x)

  def advance(
    self, model, params, caches, state, spans, keys_B, first, last, knobs
  ):  # fmt: skip
    branches = len(caches)
    cache = base.join(caches, again=int(self.config.owns_boi))
    blank = base.block(self.config, spans, cache)

    clean = functools.partial(self._clean, model, params, blank, cache)
    return solve(self.config, clean, branches, state, keys_B, first, last, knobs)

  def _clean(self, model, params, blank: Inputs, cache, x, t):
    """One forward of the block: x [rows, P, C] at times [rows] -> clean image."""
    after = int(self.config.framed)  # EOI
    before = blank.tokens_BT.shape[1] - self.config.patches - after
    here = slice(before, before + self.config.patches)
    inputs = blank.replace(
      patches_BTC=jnp.pad(x, ((0, 0), (before, after), (0, 0))),
      time_BT=jnp.broadcast_to(t[:, None], blank.tokens_BT.shape),
    )

    def run(m: Model):
      h_BTD, _, context = m.hidden(inputs, cache)
      return m.prediction(h_BTD, inputs, context)[:, here]

    out = model.apply({"params": params}, method=run)
    d = self.config.diffusion
    return process.from_kind(d.path, d.predict, out, x, t[:, None])[0]


def solve(config: Config, clean, branches: int, state, keys_B, first, last, knobs):
  """Takes solver steps [first, last) on one image a row.

  Args:
    clean: (x [branches * B, P, C], t [branches * B]) -> prediction of clean images.
    branches: 2 with guidance: rows with all they are drawn from, then those without
      text; 3 with those without the pictures shown behind them.
    state: (x_BPC at times[first], the last prediction of the clean image).
    keys_B: randomness of each row's image, for stochastic samplers.

  Returns:
    The state at times[last].
  """
  s, times = config.sample, knobs.times

  def predict(x, t_B):
    x0 = clean(*(jnp.concatenate([y] * branches) for y in (x, t_B)))
    if s.guidance_renorm != "none" or branches == 3:
      x0 = sloped(config, x, x0, branches, t_B, knobs)
    elif branches == 2:
      x0 = guided(*jnp.split(x0, 2), t_B, knobs)
    return jnp.clip(x0, -s.clip_x0, s.clip_x0) if s.clip_x0 else x0

  path = config.diffusion.path
  return samplers.solve(s.sampler, path, predict, state, times, keys_B, first, last)


def sloped(config: Config, x, x0, branches: int, t_B, knobs: base.Knobs):
  """Guidance on the slopes at x [B, P, C] of clean images [branches * B, P, C]."""
  if branches == 1:
    return x0
  path, kind, t = config.diffusion.path, "velocity", t_B[:, None]
  slopes = [process.convert(path, "x0", kind, y, x, t) for y in jnp.split(x0, branches)]
  slope = guidance.guide_slope(
    *slopes, *[None] * (3 - branches), t_B, scale=knobs.guidance,
    picture_scale=knobs.guidance_image, low=knobs.guidance_low,
    high=knobs.guidance_high, renorm=config.sample.guidance_renorm,
    least=knobs.guidance_renorm_min,
  )  # fmt: skip
  return process.convert(path, kind, "x0", slope, x, t)


def guided(conditional, unconditional, t_B, knobs: base.Knobs):
  """Guidance on clean images [B, P, C] by the knobs of drawing."""
  return guidance.guide(
    conditional, unconditional, t_B, scale=knobs.guidance, low=knobs.guidance_low,
    high=knobs.guidance_high, rescale=knobs.guidance_rescale,
  )  # fmt: skip
