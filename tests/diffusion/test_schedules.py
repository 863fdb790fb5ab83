"""Laws of the noise paths and of the timesteps that are drawn and visited."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests import small
from unijax.diffusion import schedules

T = np.linspace(0.0, 1.0, 101)


def exact(path, t):
  """(alpha, sigma) in double precision, from the papers' formulas."""
  if path == "rectified_flow":
    return 1 - t, t
  if path == "cosine":
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    squared = f(t) / f(0.0)
  else:  # beta(t) = 0.1 + 19.9 t; alpha^2 = exp(-integral of beta)
    squared = np.exp(-(0.1 * t + 19.9 * t**2 / 2))
  return np.sqrt(squared), np.sqrt(1 - squared)


@pytest.mark.parametrize("path", schedules.PATHS)
def test_paths_against_their_formulas(path):
  alpha, sigma = (np.asarray(x, np.float64) for x in schedules.alpha_sigma(path, T))
  want_alpha, want_sigma = exact(path, T)
  np.testing.assert_allclose(alpha, want_alpha, atol=3e-7)
  np.testing.assert_allclose(sigma, want_sigma, atol=2e-6)
  assert (np.diff(alpha) < 0).all() and (np.diff(sigma) >= 0).all()
  assert alpha[0] == pytest.approx(1) and sigma[0] < 1e-5
  assert alpha[-1] < 0.01 and sigma[-1] == pytest.approx(1, abs=1e-4)
  if path != "rectified_flow":
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)


def test_published_points():
  # Nichol & Dhariwal: alpha-bar in the middle. Ho et al.: the product of 1 - beta.
  alpha, _ = schedules.alpha_sigma("cosine", 0.5)
  assert float(alpha) ** 2 == pytest.approx(0.4938, abs=1e-4)
  betas = np.linspace(1e-4, 0.02, 1000)
  bars = np.cumprod(1 - betas)
  for i in (99, 499, 899):
    alpha, _ = schedules.alpha_sigma("linear", (i + 1) / 1000)
    assert 2 * np.log(alpha) == pytest.approx(np.log(bars[i]), rel=0.01)


@pytest.mark.parametrize("path", schedules.PATHS)
def test_derivatives_are_slopes(path):
  t, h = T[2:-2], 1e-5
  got = schedules.derivatives(path, t)
  for slope, i in zip(got, (0, 1), strict=True):
    want = (exact(path, t + h)[i] - exact(path, t - h)[i]) / (2 * h)
    np.testing.assert_allclose(slope, want, rtol=1e-4, atol=1e-5)
  for edge in (0.0, 1.0):  # finite where the path begins and ends
    assert np.isfinite(schedules.derivatives(path, edge)).all()


def test_shift():
  for amount in (0.5, 1.0, 3.0):
    s = np.asarray(schedules.shift(jnp.asarray(T), amount))
    assert s[0] == 0 and s[-1] == 1 and (np.diff(s) > 0).all()
    back = schedules.shift(jnp.asarray(s), 1 / amount)
    np.testing.assert_allclose(back, T, atol=1e-6)
  np.testing.assert_allclose(schedules.shift(jnp.asarray(T), 1.0), T, atol=1e-7)
  # Esser et al.: shifting by m moves the logit by log m.
  assert schedules.shift(0.5, 3.0) == pytest.approx(0.75)


def draws(**knobs):
  d = small.config(**{f"diffusion__{k}": v for k, v in knobs.items()}).diffusion
  uniform = jax.random.uniform(jax.random.key(0), (20_000,), minval=1e-6)
  return np.asarray(schedules.sample_time(d, uniform), np.float64)


def test_time_laws():
  t = draws()
  assert t.mean() == pytest.approx(0.5, abs=0.01)
  assert scipy.stats.kstest(t, "uniform").statistic < 0.02
  t = draws(time_law="logit_normal", time_mean=-0.5, time_std=1.5)
  logit = np.log(t / (1 - t))
  assert logit.mean() == pytest.approx(-0.5, abs=0.04)
  assert logit.std() == pytest.approx(1.5, abs=0.04)
  assert scipy.stats.kstest((logit + 0.5) / 1.5, "norm").statistic < 0.02
  t = draws(time_law="logit_normal", time_shift=4.0)
  logit = np.log(t / (1 - t))
  assert logit.mean() == pytest.approx(np.log(4), abs=0.04)
  assert logit.std() == pytest.approx(1, abs=0.04)
  t = draws(time_max=0.9)
  assert t.max() == pytest.approx(0.9) and t.min() < 0.01


def test_the_last_time_and_a_shift_by_the_size_of_an_image():
  c = small.config(
    sample__steps=4, sample__schedule_last=0.1, sample__schedule_shift=3.0
  )
  times = np.asarray(schedules.sampler_times(c.diffusion, c.sample, 4))
  even = np.array([1.0, 0.7, 0.4, 0.1, 0.0])
  np.testing.assert_allclose(times, 3 * even / (1 + 2 * even), rtol=1e-6)
  line = ((256, 0.5), (4096, 1.15))  # e^mu / (e^mu + 1 / t - 1) in FLUX.1's code
  c = small.config(sample__steps=4, sample__schedule_patches=line)
  for patches, mu in ((256, 0.5), (4096, 1.15), (1024, 0.63)):
    times = np.asarray(schedules.sampler_times(c.diffusion, c.sample, patches))
    wanted = np.exp(mu) / (np.exp(mu) + 1 / np.array([1.0, 0.75, 0.5, 0.25]) - 1)
    np.testing.assert_allclose(times, [*wanted, 0.0], rtol=1e-6)


@pytest.mark.parametrize(("time_max", "amount"), [(1.0, 1.0), (0.99, 3.0), (0.5, 0.5)])
def test_solver_times_fall_from_the_largest_to_zero(time_max, amount):
  d = small.config(diffusion__time_max=time_max).diffusion
  for steps in (1, 2, 25):
    times = np.asarray(schedules.solver_times(d, steps, amount))
    assert len(times) == steps + 1
    assert times[0] == np.float32(time_max) and times[-1] == 0
    assert (np.diff(times) < 0).all(), times
