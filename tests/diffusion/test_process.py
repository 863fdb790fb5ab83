"""Law 6, first half: every parameterisation says the same and converts to every other."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from unijax.diffusion import process, schedules

KINDS = ("x0", "epsilon", "v", "velocity")
T = jnp.linspace(0.02, 0.98, 25)
RNG = np.random.default_rng(0)
X0, EPSILON, WRONG = jnp.asarray(RNG.standard_normal((3, 25, 6)), jnp.float32)


def closed_form(path, kind):
  """What each kind is, written out."""
  alpha, sigma = (c[:, None] for c in schedules.alpha_sigma(path, T))
  dalpha, dsigma = (c[:, None] for c in schedules.derivatives(path, T))
  return {
    "x0": X0,
    "epsilon": EPSILON,
    "v": alpha * EPSILON - sigma * X0,
    "velocity": dalpha * X0 + dsigma * EPSILON,
  }[kind]


@pytest.mark.parametrize("path", schedules.PATHS)
def test_corruption(path):
  alpha, sigma = schedules.alpha_sigma(path, T)
  x_t = process.corrupt(path, X0, EPSILON, T)
  np.testing.assert_allclose(x_t, alpha[:, None] * X0 + sigma[:, None] * EPSILON)
  clean = process.corrupt(path, X0, EPSILON, jnp.zeros(25))
  np.testing.assert_allclose(clean, X0, atol=1e-5)


@pytest.mark.parametrize("path", schedules.PATHS)
@pytest.mark.parametrize(("source", "target"), [*itertools.product(KINDS, KINDS)])
def test_every_kind_converts_to_every_other(path, source, target):
  x_t = process.corrupt(path, X0, EPSILON, T)
  prediction = closed_form(path, source)
  np.testing.assert_allclose(
    process.to_kind(path, source, X0, EPSILON, T), prediction, atol=1e-5
  )
  got = process.convert(path, source, target, prediction, x_t, T)
  np.testing.assert_allclose(got, closed_form(path, target), rtol=1e-3, atol=2e-3)
  back = process.convert(path, target, source, got, x_t, T)
  np.testing.assert_allclose(back, prediction, rtol=2e-3, atol=4e-3)
  x0, epsilon = process.from_kind(path, source, prediction, x_t, T)
  alpha, sigma = (c[:, None] for c in schedules.alpha_sigma(path, T))
  np.testing.assert_allclose(alpha * x0, alpha * X0, atol=1e-4)
  np.testing.assert_allclose(sigma * epsilon, sigma * EPSILON, atol=1e-4)


@pytest.mark.parametrize("path", schedules.PATHS)
def test_errors_scale_by_their_jacobian(path):
  """Closed forms of the weights that move a loss from one space to another."""
  alpha, sigma = (c[:, None] for c in schedules.alpha_sigma(path, T))
  x_t = process.corrupt(path, X0, EPSILON, T)
  error = 1e-1 * WRONG

  def moved(source, target):
    right = closed_form(path, source)
    wrong = process.convert(path, source, target, right + error, x_t, T)
    return (wrong - closed_form(path, target)) / error

  np.testing.assert_allclose(moved("x0", "epsilon"), -alpha / sigma * jnp.ones(6),
                             rtol=2e-2)  # fmt: skip
  np.testing.assert_allclose(moved("epsilon", "x0"), -sigma / alpha * jnp.ones(6),
                             rtol=2e-2)  # fmt: skip
  norm = alpha**2 + sigma**2
  np.testing.assert_allclose(moved("v", "x0"), -sigma / norm * jnp.ones(6), rtol=2e-2,
                             atol=1e-3)  # fmt: skip
  if path == "rectified_flow":
    np.testing.assert_allclose(moved("velocity", "x0"), -T[:, None] * jnp.ones(6),
                               rtol=2e-2)  # fmt: skip
