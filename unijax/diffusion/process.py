"""Corruption, and conversion between what a model may predict.

With x_t = alpha x0 + sigma epsilon and dots for d/dt, a prediction is one of

  x0        the clean data
  epsilon   the noise
  v         alpha epsilon - sigma x0                     (Salimans & Ho 2022)
  velocity  alpha' x0 + sigma' epsilon, the flow's dx/dt   (Lipman et al. 2023)

Each of them with x_t determines (x0, epsilon), so any converts to any other.
"""

import jax
import jax.numpy as jnp

from unijax.diffusion import schedules

SMALL = 1e-4  # where a path's alpha or sigma vanishes, conversion divides by this


def corrupt(path: str, x0, epsilon, t) -> jax.Array:
  """Returns x_t. `t` broadcasts against x0 [..., C] after a trailing axis is added."""
  alpha, sigma = _coefficients(path, t)
  return alpha * x0 + sigma * epsilon


def to_kind(path: str, kind: str, x0, epsilon, t) -> jax.Array:
  """Expresses (x0, epsilon) at time t as one of the four kinds of prediction."""
  if kind == "x0":
    return x0
  if kind == "epsilon":
    return epsilon
  alpha, sigma = _coefficients(path, t)
  if kind == "v":
    return alpha * epsilon - sigma * x0
  alpha_dot, sigma_dot = (d[..., None] for d in schedules.derivatives(path, t))
  return alpha_dot * x0 + sigma_dot * epsilon


def from_kind(path: str, kind: str, prediction, x_t, t) -> tuple[jax.Array, jax.Array]:
  """Returns (x0, epsilon) implied by a prediction of the given kind at x_t."""
  alpha, sigma = _coefficients(path, t)
  if kind == "x0":
    return prediction, (x_t - alpha * prediction) / jnp.maximum(sigma, SMALL)
  if kind == "epsilon":
    return (x_t - sigma * prediction) / jnp.maximum(alpha, SMALL), prediction
  if kind == "v":
    norm = alpha**2 + sigma**2
    return (
      (alpha * x_t - sigma * prediction) / norm,
      (sigma * x_t + alpha * prediction) / norm,
    )
  alpha_dot, sigma_dot = (d[..., None] for d in schedules.derivatives(path, t))
  det = alpha * sigma_dot - sigma * alpha_dot
  x0 = (sigma_dot * x_t - sigma * prediction) / det
  return x0, (alpha * prediction - alpha_dot * x_t) / det


def convert(path: str, source: str, target: str, prediction, x_t, t) -> jax.Array:
  """Re-expresses a prediction of kind `source` as kind `target`."""
  if source == target:
    return prediction
  x0, epsilon = from_kind(path, source, prediction, x_t, t)
  return to_kind(path, target, x0, epsilon, t)


def _coefficients(path, t):
  alpha, sigma = schedules.alpha_sigma(path, t)
  return alpha[..., None], sigma[..., None]
