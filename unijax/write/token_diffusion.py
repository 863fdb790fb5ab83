"""Diffusion a patch: a small head denoises each, given the hidden state before it.

MAR (Li et al. 2024) in raster order, which keeps the cache, as in Orthus (Kou et al.
2024): the backbone reads clean patches only, and noise exists only in the head. What
the head does is said by functions, which other orders share.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.diffusion import process, samplers, schedules
from unijax.types import Batch, Inputs
from unijax.write import base, losses
from unijax.write.base import ImageLoss, Knobs
from unijax.write.diffusion import guided
from unijax.write.in_order import InOrder, shifted


class Noised(NamedTuple):
  """What the head is shown, `train.token_draws` times for each patch."""

  time: jax.Array  # [draws, B, T]
  epsilon: jax.Array  # [draws, B, T, C]
  x: jax.Array  # likewise


def noise(config: Config, key, batch: Batch) -> Noised:
  """Draws timesteps and noise of every patch."""
  shape = batch.patches_BTC.shape[-1:]
  patch = base.image_keys(key, batch)[1]

  def one(number):
    def draw(key):
      key = jax.random.fold_in(key, number)
      return base.uniform(key), jax.random.normal(jax.random.fold_in(key, 0), shape)

    uniform, epsilon = base.each_position(draw, patch)
    time = schedules.sample_time(config.diffusion, uniform)
    x = process.corrupt(config.diffusion.path, batch.patches_BTC, epsilon, time)
    return Noised(time, epsilon, x)

  return jax.vmap(one)(jnp.arange(config.train.token_draws))


def denoised(model, h_BTD, noised: Noised) -> jax.Array:
  """The head's output [draws, B, T, C], given the hidden state of each position."""
  h = jnp.broadcast_to(h_BTD, (len(noised.time), *h_BTD.shape))
  return model.image_head(h, noised.x, noised.time)


def denoising_loss(config: Config, output, noised: Noised, batch: Batch, weight_BT):
  """ImageLoss of the head's output; divided by all of the batch's image weight.

  Args:
    weight_BT: of the loss of each position.
  """
  d, (time, epsilon, x) = config.diffusion, noised
  space = d.predict if d.loss_target == "same" else d.loss_target
  prediction = process.convert(d.path, d.predict, space, output, x, time)
  target = process.to_kind(d.path, space, batch.patches_BTC, epsilon, time)
  error = jnp.square(prediction - target).mean(axis=-1)
  weight = jnp.broadcast_to(weight_BT / len(time), error.shape)
  mse = losses.Sum((error * weight).sum(), batch.image_weight_BT.sum())
  levels = losses.by_noise(error, time, weight)
  return ImageLoss(mse, {"image_mse": mse, "image_mse_by_noise": levels})


def token_times(config: Config) -> jax.Array:
  """Timesteps that the solver of a patch visits."""
  s = config.sample
  return schedules.solver_times(config.diffusion, s.token_steps, s.schedule_shift)


def draw(config: Config, model, params, h_RD, branches: int, key_R, knobs: Knobs):
  """Draws one patch for each hidden state.

  Args:
    h_RD: [branches * R, D], those without text last.
    key_R: randomness of each patch.

  Returns:
    [R, C].
  """
  d, s, C = config.diffusion, config.sample, config.patch_channels
  times = knobs.times

  def noise(i):  # the temperature scales what is drawn, as in MAR
    keys = jax.vmap(jax.random.fold_in, (0, None))(key_R, i)
    epsilon = jax.vmap(lambda key: jax.random.normal(key, (1, C)))(keys)
    return knobs.temperature * epsilon

  def predict(x, t_R):  # x [R, 1, C]: an image of one patch
    x_rows, t_rows = (jnp.concatenate([y] * branches) for y in (x, t_R))
    run = lambda m: m.image_head(h_RD, x_rows[:, 0], t_rows)  # noqa: E731
    out = model.apply({"params": params}, method=run)[:, None]
    x0, _ = process.from_kind(d.path, d.predict, out, x_rows, t_rows[:, None])
    if branches == 2:
      x0 = guided(*jnp.split(x0, 2), t_R, knobs)
    return jnp.clip(x0, -s.clip_x0, s.clip_x0) if s.clip_x0 else x0

  def step(i, x):
    args = (predict, x, times[i], times[i + 1], noise(i + 1))
    return samplers.step(s.sampler, d.path, *args)[0]

  return jax.lax.fori_loop(0, s.token_steps, step, noise(0))[:, 0]


class TokenDiffusion(InOrder):
  """Several timesteps a patch in training; a solver for each patch in drawing."""

  metric = "image_mse"

  def corrupt(self, key, batch: Batch):
    """Returns (clean Inputs, Noised)."""
    return super().corrupt(key, batch)[0], noise(self.config, key, batch)

  def heads(self, model, inputs: Inputs, truth):
    h_BTD = model.hidden(inputs)[0]
    return h_BTD, denoised(model, shifted(h_BTD), truth)

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    return denoising_loss(self.config, output, truth, batch, batch.image_weight_BT)

  def times(self, config):
    return token_times(config)

  def choose(self, model, params, h_BD, branches, key_B, knobs):
    return draw(self.config, model, params, h_BD, branches, key_B, knobs)
