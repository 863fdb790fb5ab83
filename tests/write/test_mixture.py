"""Mixtures of Gaussians: the density is SciPy's, and draws follow it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from tests.laws import variants
from unijax.write import mixture

K, C = 3, 4


@functools.cache
def some(seed: int = 0):
  """One mixture: (log weights, means, log scales)."""
  rng = np.random.default_rng(seed)
  weights = np.log(rng.dirichlet(np.ones(K)))
  means, log_scales = rng.normal(size=(K, C)), rng.uniform(-1, 0.5, (K, C))
  return tuple(jnp.asarray(x, jnp.float32) for x in (weights, means, log_scales))


def of_scipy(m, x):
  weights, means, log_scales = (np.asarray(y, np.float64) for y in m)
  each = [stats.multivariate_normal(u, np.diag(np.exp(2 * s))).logpdf(x)
          for u, s in zip(means, log_scales, strict=True)]  # fmt: skip
  return logsumexp(weights[:, None] + np.stack(each), axis=0)


def test_log_density_is_scipys():
  x = np.random.default_rng(1).normal(size=(50, C)) * 3
  many = jax.tree.map(lambda y: jnp.broadcast_to(y, (50, *y.shape)), some())
  np.testing.assert_allclose(
    mixture.log_density(many, jnp.asarray(x, jnp.float32)),
    of_scipy(some(), x),
    rtol=1e-5,
  )


def draws(function, n=20_000, seed=0):
  return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), n))


def test_draws_have_the_moments_of_the_mixture():
  weights, means, log_scales = (np.asarray(y, np.float64) for y in some())
  p, var = np.exp(weights)[:, None], np.exp(2 * log_scales)
  mean = (p * means).sum(0)
  spread = (p * (var + means**2)).sum(0) - mean**2
  x = np.asarray(draws(lambda key: mixture.sample(some(), key, 1.0)), np.float64)
  np.testing.assert_allclose(x.mean(0), mean, atol=0.05)
  np.testing.assert_allclose(x.var(0), spread, rtol=0.05)
  cold = draws(lambda key: mixture.sample(some(), key, 0.0), 200)
  assert abs(cold - means[weights.argmax()]).max() < 1e-6


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_guidance_draws_from_the_sharpened_density(scale):
  """Importance weights, in one dimension each, against numbers of a grid."""
  one, other = (
    jax.tree.map(lambda y: y[..., :1] if y.ndim > 1 else y, some(s)) for s in (0, 7)
  )
  c = variants.config("gmm-shared")
  path = variants.path(c)
  knobs = path.knobs(
    dataclasses.replace(c, sample=dataclasses.replace(c.sample, guidance=scale))
  )
  x = np.linspace(-8, 8, 4001)[:, None]
  weight = np.exp(scale * of_scipy(one, x) + (1 - scale) * of_scipy(other, x))
  mean = (weight * x[:, 0]).sum() / weight.sum()
  plain = np.exp(of_scipy(one, x))
  conditional = (plain * x[:, 0]).sum() / plain.sum()
  found = draws(lambda key: mixture._guided_sample(one, other, key, knobs)).mean()
  if scale == 1.0:
    assert mean == pytest.approx(conditional) and found == pytest.approx(mean, abs=0.03)
  else:  # sixteen candidates come near
    assert abs(mean - conditional) > 0.1
    assert found == pytest.approx(mean, abs=0.3 * abs(mean - conditional))
