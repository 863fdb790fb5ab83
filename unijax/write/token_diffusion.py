"""Diffusion a patch: a small head denoises each, given the hidden state before it.

MAR (Li et al. 2024) in raster order, which keeps the cache, as in Orthus (Kou et al.
2024): the backbone reads clean patches only, and noise exists only in the head.
"""

import jax
import jax.numpy as jnp

from unijax.diffusion import process, samplers, schedules
from unijax.types import Batch, Inputs
from unijax.write import base, losses
from unijax.write.base import ImageLoss
from unijax.write.diffusion import guided
from unijax.write.in_order import InOrder, shifted


class TokenDiffusion(InOrder):
  """Several timesteps a patch in training; a solver for each patch in drawing."""

  metric = "image_mse"

  def corrupt(self, key, batch: Batch):
    """Returns (clean Inputs, (time, epsilon, noised), each [draws, B, T, ...])."""
    draws, shape = self.config.train.token_draws, batch.patches_BTC.shape[-1:]
    patch = base.image_keys(key, batch)[1]

    def one(number):
      def draw(key):
        key = jax.random.fold_in(key, number)
        return base.uniform(key), jax.random.normal(jax.random.fold_in(key, 0), shape)

      uniform, epsilon = base.each_position(draw, patch)
      time = schedules.sample_time(self.config.diffusion, uniform)
      x = process.corrupt(self.config.diffusion.path, batch.patches_BTC, epsilon, time)
      return time, epsilon, x

    truth = jax.vmap(one)(jnp.arange(draws))
    return super().corrupt(key, batch)[0], truth

  def heads(self, model, inputs: Inputs, truth):
    h_BTD, (time, _, x) = model.hidden(inputs)[0], truth
    h = jnp.broadcast_to(shifted(h_BTD), (len(time), *h_BTD.shape))
    return h_BTD, model.image_head(h, x, time)

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    d, (time, epsilon, x) = self.config.diffusion, truth
    space = d.predict if d.loss_target == "same" else d.loss_target
    prediction = process.convert(d.path, d.predict, space, output, x, time)
    target = process.to_kind(d.path, space, batch.patches_BTC, epsilon, time)
    error = jnp.square(prediction - target).mean(axis=-1)
    weight = jnp.broadcast_to(batch.image_weight_BT / len(time), error.shape)
    mse = losses.Sum((error * weight).sum(), batch.image_weight_BT.sum())
    levels = losses.by_noise(error, time, weight)
    return ImageLoss(mse, {"image_mse": mse, "image_mse_by_noise": levels})

  def times(self, config):
    s = config.sample
    return schedules.solver_times(config.diffusion, s.token_steps, s.schedule_shift)

  def choose(self, model, params, h_BD, branches, key_B, knobs):
    d, s, C = self.config.diffusion, self.config.sample, self.config.patch_channels
    times = knobs.times

    def noise(i):  # the temperature scales what is drawn, as in MAR
      keys = jax.vmap(jax.random.fold_in, (0, None))(key_B, i)
      epsilon = jax.vmap(lambda key: jax.random.normal(key, (1, C)))(keys)
      return knobs.temperature * epsilon

    def predict(x, t_B):  # x [B, 1, C]: an image of one patch
      x_rows, t_rows = (jnp.concatenate([y] * branches) for y in (x, t_B))
      run = lambda m: m.image_head(h_BD, x_rows[:, 0], t_rows)  # noqa: E731
      out = model.apply({"params": params}, method=run)[:, None]
      x0, _ = process.from_kind(d.path, d.predict, out, x_rows, t_rows[:, None])
      if branches == 2:
        x0 = guided(*jnp.split(x0, 2), t_B, knobs)
      return jnp.clip(x0, -s.clip_x0, s.clip_x0) if s.clip_x0 else x0

    def step(i, x):
      args = (predict, x, times[i], times[i + 1], noise(i + 1))
      return samplers.step(s.sampler, d.path, *args)[0]

    return jax.lax.fori_loop(0, s.token_steps, step, noise(0))[:, 0]
