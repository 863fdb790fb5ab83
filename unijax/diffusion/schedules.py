"""Noise paths and laws of the timestep. Time runs from t = 0 (clean) to t = 1 (noise).

A path says x_t = alpha(t) x0 + sigma(t) epsilon. To add one, write a function that
returns (alpha, sigma) and name it in `PATHS`; its derivative is taken by JAX.
"""

import math

import jax
import jax.numpy as jnp

from unijax.config import DiffusionConfig, SampleConfig


def cosine(t):
  """Nichol & Dhariwal 2021, eq. 17, in continuous time: alpha^2 = f(t) / f(0).

  Written with sines, which are exact where alpha or sigma vanishes: differences of
  cosines lose sigma near 0, and the slopes with it.
  """
  s = 0.008
  quarter = jnp.pi / 2 / (1 + s)
  norm = jnp.cos(s * quarter)
  alpha = jnp.sin((1 - t) * quarter) / norm
  square = jnp.sin(t * quarter) * jnp.sin((t + 2 * s) * quarter) / norm**2
  return alpha, jnp.sqrt(square + 1e-12)


def linear(t):
  """Ho et al. 2020: beta rising linearly from 1e-4 to 0.02 over 1,000 steps.

  The continuous limit (Song et al. 2021, eq. 33 with beta scaled by 1,000).
  """
  low, high = 0.1, 20.0
  log_alpha = -0.25 * t * t * (high - low) - 0.5 * t * low
  alpha = jnp.exp(log_alpha)
  return alpha, jnp.sqrt(-jnp.expm1(2 * log_alpha) + 1e-12)


def rectified_flow(t):
  """Liu et al. 2023: the straight line from data to noise."""
  return 1.0 - t, t


PATHS = {"cosine": cosine, "linear": linear, "rectified_flow": rectified_flow}


def alpha_sigma(path: str, t: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns float32 (alpha(t), sigma(t)) of a path, elementwise."""
  return PATHS[path](jnp.asarray(t, jnp.float32))


def derivatives(path: str, t: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (d alpha / dt, d sigma / dt), elementwise."""
  t = jnp.asarray(t, jnp.float32)
  return jax.jvp(PATHS[path], (t,), (jnp.ones_like(t),))[1]


def shift(t: jax.Array, amount: float) -> jax.Array:
  """Moves timesteps towards noise for amount > 1: s t / (1 + (s - 1) t).

  Esser et al. 2024, eq. 23; keeps 0 and 1.
  """
  return amount * t / (1.0 + (amount - 1.0) * t)


def sample_time(config: DiffusionConfig, uniform: jax.Array) -> jax.Array:
  """Maps uniform numbers in (0, 1) to timesteps by the law of the config."""
  if config.time_law == "uniform":
    t = uniform
  else:
    normal = jax.scipy.special.ndtri(uniform)
    t = jax.nn.sigmoid(config.time_mean + config.time_std * normal)
  return jnp.minimum(shift(t, config.time_shift), config.time_max)


def solver_times(
  config: DiffusionConfig, steps: int, amount: float, last: float = 0.0
) -> jax.Array:
  """The timesteps a sampler visits: float32 [steps + 1] from time_max down to 0.

  Args:
    config: has time_max.
    steps: of the solver.
    amount: of the shift.
    last: of the times before 0, before it is shifted; 0: all are evenly apart.
  """
  if last:
    even = jnp.append(jnp.linspace(1.0, last, steps), 0.0)
  else:
    even = jnp.linspace(1.0, 0.0, steps + 1)
  return config.time_max * shift(even, amount)


def sampler_times(
  config: DiffusionConfig, sample: SampleConfig, patches: int
) -> jax.Array:
  """`solver_times` by the knobs of sampling, for an image of so many patches."""
  amount = sample.schedule_shift
  if sample.schedule_patches:
    (few, low), (many, high) = sample.schedule_patches
    amount = math.exp(low + (patches - few) * (high - low) / (many - few))
  return solver_times(config, sample.steps, amount, sample.schedule_last)
