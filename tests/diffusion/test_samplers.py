"""Law 6, second half: samplers recover distributions whose posterior mean is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.diffusion import process, samplers, schedules

N = 10_000
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[1.5, 0.0], [-1.0, 1.0], [-0.5, -1.5]])
SPREAD = 0.25  # standard deviation of each component, in both directions
SAMPLERS = ("ddpm", "ddim", "euler", "heun")


def posterior_mean(path, x, t_B):
  """E[x0 | x_t] of the mixture, [N, 1, 2]: the perfect model."""
  alpha, sigma = (c[:, None, None] for c in schedules.alpha_sigma(path, t_B))
  variance = alpha**2 * SPREAD**2 + sigma**2  # of x_t in a component
  away = x[:, 0, None] - alpha * MEANS  # [N, 3, 2]
  log_p = jnp.log(WEIGHTS) - (away**2).sum(-1) / (2 * variance[..., 0])
  share = jax.nn.softmax(log_p, axis=-1)[..., None]
  mean = MEANS + alpha * SPREAD**2 / variance * away
  return (share * mean).sum(axis=1, keepdims=True)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def run(sampler, path, steps, n=N, predict="x0", seed=0, x=None):
  """Samples [n, 2], by a model that predicts the given kind."""
  d = small.config(diffusion__path=path, diffusion__time_max=TIME_MAX[path]).diffusion
  times = schedules.solver_times(d, steps, 1.0)
  key = jax.random.key(seed)

  def model(x, t_B):
    x0 = posterior_mean(path, x, t_B)
    t = t_B[:, None]
    epsilon = process.from_kind(path, "x0", x0, x, t)[1]
    output = process.to_kind(path, predict, x0, epsilon, t)
    return process.from_kind(path, predict, output, x, t)[0]

  def step(i, x):
    noise = jax.random.normal(jax.random.fold_in(key, i), x.shape)
    return samplers.step(sampler, path, model, x, times[i], times[i + 1], noise)[0]

  if x is None:
    x = jax.random.normal(jax.random.fold_in(key, steps), (n, 1, 2))
  return jax.lax.fori_loop(0, steps, step, x)[:, 0]


TIME_MAX = {"cosine": 0.999, "linear": 1.0, "rectified_flow": 1.0}


def errors(samples):
  """Largest errors of the component weights, the mean and the covariance."""
  samples = np.asarray(samples)
  nearest = ((samples[:, None] - MEANS) ** 2).sum(-1).argmin(1)
  weights = np.bincount(nearest, minlength=3) / len(samples)
  mean = WEIGHTS @ MEANS
  cov = SPREAD**2 * np.eye(2) + (MEANS - mean).T @ np.diag(WEIGHTS) @ (MEANS - mean)
  return (
    abs(weights - WEIGHTS).max(),
    abs(samples.mean(0) - mean).max(),
    abs(np.cov(samples.T) - cov).max(),
  )


@pytest.mark.parametrize("path", schedules.PATHS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_recover_a_mixture(sampler, path):
  steps = {"heun": 60, "ddpm": 200}.get(sampler, 120)
  weights, mean, cov = errors(run(sampler, path, steps))
  assert weights < 0.02 and mean < 0.05 and cov < 0.08, (weights, mean, cov)


@pytest.mark.parametrize("predict", ["epsilon", "v", "velocity"])
def test_the_kind_of_prediction_does_not_matter(predict):
  one, other = (run("ddim", "cosine", 40, 500, kind) for kind in ("x0", predict))
  np.testing.assert_allclose(one, other, atol=5e-3)


def exact_flow(path, x, steps=2000):
  return run("heun", path, steps, len(x), x=x)


def test_more_steps_are_better_and_heun_is_of_second_order():
  """Against the same flow solved finely, from the same noise."""
  path = "rectified_flow"
  x = jax.random.normal(jax.random.key(1), (300, 1, 2))
  truth = exact_flow(path, x)

  def error(sampler, steps):
    made = run(sampler, path, steps, len(x), x=x)
    # The median: a few points stand between two components, where the flow is stiff.
    return float(np.median(np.linalg.norm(made - truth, axis=-1)))

  euler = [error("euler", n) for n in (20, 40, 80)]
  heun = [error("heun", n) for n in (20, 40)]
  for coarse, fine in zip(euler, euler[1:], strict=False):
    assert 1.7 < coarse / fine < 2.4, euler
  assert heun[0] < euler[1], (heun, euler)  # at the same number of evaluations
  assert heun[0] / heun[1] > 3, heun


@pytest.mark.parametrize("path", ["cosine", "linear"])
def test_ddim_and_euler_follow_the_same_flow(path):
  x = jax.random.normal(jax.random.key(1), (300, 1, 2))
  ddim, euler = (run(s, path, 400, 300, x=x) for s in ("ddim", "euler"))
  assert np.median(np.linalg.norm(ddim - euler, axis=-1)) < 0.03


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_ddpm_is_stochastic_and_by_its_noise_alone(sampler):
  path, t, s = "rectified_flow", jnp.float32(0.8), jnp.float32(0.5)
  x, noise, other = jax.random.normal(jax.random.key(0), (3, 4, 1, 2))
  predict = functools.partial(posterior_mean, path)
  one, again, different = (
    samplers.step(sampler, path, predict, x, t, s, n)[0] for n in (noise, noise, other)
  )
  assert (one == again).all()
  assert (one != different).all() == (sampler == "ddpm")
  # Rows do not mix: the noise of one row moves no other.
  mixed = samplers.step(sampler, path, predict, x, t, s, noise.at[1:].set(other[1:]))[0]
  assert (mixed[0] == one[0]).all()


@pytest.mark.parametrize("path", schedules.PATHS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_step_lands_on_the_prediction(sampler, path):
  """At t = 0 nothing but the predicted clean data is left, and it is finite."""
  x, noise = jax.random.normal(jax.random.key(0), (2, 5, 3, 2))
  x0 = jnp.ones_like(x) * 0.3
  for t in (1e-3, 0.3, TIME_MAX[path]):
    made, predicted = samplers.step(
      sampler, path, lambda *_: x0, x, jnp.float32(t), jnp.float32(0.0), noise
    )
    assert (predicted == x0).all() and jnp.isfinite(made).all()
    if sampler in ("ddim", "ddpm"):
      np.testing.assert_allclose(made, x0, atol=1e-3)
