"""Samplers as one update x_t -> x_s, s < t, given a function that predicts x0.

ddim    x_s = alpha_s x0 + sigma_s epsilon            (Song et al. 2021, eta = 0)
ddpm    a draw from q(x_s | x_t, x0)                  (Ho et al. 2020, eq. 7,
        in the form for any alpha and sigma)
euler   x + (s - t) dx/dt                             probability-flow ODE
heun    the mean of the slopes at both ends           second order, two evaluations
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unijax.diffusion import process, schedules

Predict = Callable[[jax.Array, jax.Array], jax.Array]  # (x_BPC, t_B) -> x0_BPC


def step(sampler: str, path: str, predict: Predict, x, t, s, noise):
  """One step from time t to time s (scalars).

  Args:
    x: [B, P, C] at time t.
    noise: standard normal [B, P, C]; only ddpm reads it.

  Returns:
    (x at time s, the x0 prediction at t), both [B, P, C].
  """
  t_B, s_B = (jnp.full(x.shape[:1], u, jnp.float32) for u in (t, s))
  x0 = predict(x, t_B)
  if sampler == "ddim":
    return _to(path, x0, _epsilon(path, x0, x, t_B), s_B), x0
  if sampler == "ddpm":
    return _ancestral(path, x0, x, t, s, noise), x0
  slope = _slope(path, x0, x, t_B)
  moved = x + (s - t) * slope
  if sampler == "euler":
    return moved, x0
  # At s = 0 some paths have no slope; there Heun falls back to Euler.
  late = jnp.maximum(s_B, 1e-3)
  slope_s = _slope(path, predict(moved, late), moved, late)
  return jnp.where(s > 0, x + (s - t) * 0.5 * (slope + slope_s), moved), x0


def solve(sampler: str, path: str, predict: Predict, state, times, keys_B, first, last):
  """Takes solver steps [first, last) on one image a row.

  Args:
    state: (x_BPC at times[first], the last prediction of the clean image).
    times: of the steps and of the end, falling.
    keys_B: randomness of each row's image, for stochastic samplers.

  Returns:
    The state at times[last].
  """

  def one(i, state):
    x, _ = state
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    return step(sampler, path, predict, x, times[i], times[i + 1], noise)

  return jax.lax.fori_loop(first, last, one, state)


def _epsilon(path, x0, x, t_B):
  return process.from_kind(path, "x0", x0, x, t_B[:, None])[1]


def _to(path, x0, epsilon, s_B):
  return process.corrupt(path, x0, epsilon, s_B[:, None])


def _slope(path, x0, x, t_B):
  epsilon = _epsilon(path, x0, x, t_B)
  return process.to_kind(path, "velocity", x0, epsilon, t_B[:, None])


def _ancestral(path, x0, x, t, s, noise):
  alpha_t, sigma_t = schedules.alpha_sigma(path, t)
  alpha_s, sigma_s = schedules.alpha_sigma(path, s)
  ratio = alpha_t / alpha_s
  variance = jnp.maximum(sigma_t**2 - ratio**2 * sigma_s**2, 0.0)  # of x_t given x_s
  mean = (ratio * sigma_s**2 * x + alpha_s * variance * x0) / sigma_t**2
  return mean + jnp.sqrt(variance) * sigma_s / sigma_t * noise
