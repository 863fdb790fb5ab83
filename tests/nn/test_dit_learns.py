"""A small diffusion transformer recovers conditional Gaussians from samples of them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import dits
from unijax.diffusion import process, samplers, schedules
from unijax.nn.dit_blocks import Condition

STEPS, ROWS, SPREAD, SOLVER = 600, 64, 0.3, 20
PATH = "rectified_flow"
MEANS = np.random.default_rng(0).uniform(-1, 1, (2, dits.GRID**2, dits.CHANNELS))


def said(which_B) -> Condition:
  """One vector for either Gaussian."""
  vectors = jax.nn.one_hot(which_B, dits.E)[:, None]
  return Condition(vectors, jnp.ones(len(which_B), jnp.int32))


@pytest.mark.slow
@pytest.mark.parametrize("style", ["cross", "joint single"])
def test_two_gaussians_are_recovered(style):
  c = dits.config(style, dit__width=32)
  module, optimizer = dits.dit(c), optax.adam(3e-3)
  which = jnp.arange(ROWS) % 2
  means = jnp.asarray(MEANS)[which]
  fresh = module.init(jax.random.key(0), means, jnp.zeros(ROWS), said(which))
  params = nn.unbox(fresh)["params"]
  predict = lambda params, x, t: module.apply({"params": params}, x, t, said(which))

  def loss(params, key):
    keys = jax.random.split(key, 3)
    x0 = means + SPREAD * jax.random.normal(keys[0], means.shape)
    epsilon, t = (
      jax.random.normal(keys[1], means.shape),
      jax.random.uniform(keys[2], (ROWS,)),
    )
    x = process.corrupt(PATH, x0, epsilon, t[:, None])
    return jnp.square(predict(params, x, t) - (epsilon - x0)).mean()

  def step(carry, key):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params, key), state)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(1), STEPS)
  train = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0][0])
  params = train((params, optimizer.init(params)))
  times = schedules.solver_times(c.diffusion, SOLVER, 1.0)

  def clean(x, t):
    return process.from_kind(PATH, "velocity", predict(params, x, t), x, t[:, None])[0]

  def draw(key):
    move = functools.partial(samplers.step, "euler", PATH, clean)
    body = lambda i, x: move(x, times[i], times[i + 1], None)[0]
    return jax.lax.fori_loop(0, SOLVER, body, jax.random.normal(key, means.shape))

  drawn = jax.lax.map(jax.jit(draw), jax.random.split(jax.random.key(2), 16))
  for number in (0, 1):
    x = np.asarray(drawn[:, np.asarray(which) == number]).reshape(-1, *MEANS.shape[1:])
    assert abs(x.mean(0) - MEANS[number]).max() < 0.15
    assert abs(x.std(0) - SPREAD).max() < 0.12
