"""Masked patches: how many are hidden, in which order they are drawn, and how."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from tests import small
from tests.laws import variants
from unijax.write import token_diffusion

NAME = "masked_diffusion-shared"


def path_of(**sample):
  c = variants.config(NAME)
  c = dataclasses.replace(c, sample=dataclasses.replace(c.sample, **sample))
  return c, variants.path(c)


def test_the_hidden_share_is_a_truncated_normal():
  _, path = path_of()
  t = path.config.train
  law = stats.truncnorm((t.hidden_min - 1) / t.hidden_std, 0, loc=1, scale=t.hidden_std)
  u = np.linspace(0.01, 0.99, 50)
  np.testing.assert_allclose(path.share(jnp.asarray(u), 1.0), law.ppf(u), atol=1e-4)
  np.testing.assert_allclose(path.share(jnp.asarray(u), 0.5), law.ppf(u) / 2, atol=1e-4)


def test_every_patch_has_its_turn_and_the_orders_differ():
  for steps, want in ((1, [4, 0]), (3, [4, 3, 1, 0]), (9, [4, 3, 2, 1, 0])):
    _, path = path_of(steps=steps)
    assert path.left.tolist() == want + [0] * (steps + 1 - len(want))
  order = np.asarray(path.order(jax.random.split(jax.random.key(0), 50)))
  assert (np.sort(order, axis=-1) == np.arange(4)).all()
  assert len({tuple(x) for x in order}) > 10


def test_one_step_draws_all_patches_independently_given_the_condition():
  c, path = path_of(steps=1)
  model, params = (
    small.functions(variants.config(NAME)).model,
    small.params(variants.config(NAME), 0),
  )
  keys, knobs = jax.random.split(jax.random.key(1), 2), path.knobs(c)
  h = jax.random.normal(jax.random.key(2), (2, 4, 32))
  state = path.begin((), keys)
  reveal = jax.jit(lambda h: path.reveal(model, params, h, 1, state, 0, keys, knobs))
  x, known = reveal(h)
  assert known.all()
  one = lambda h, key: token_diffusion.draw(
    c, model, params, h[None], 1, key[None], knobs
  )[0]
  key = jax.vmap(lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(jnp.arange(4)))(
    keys
  )
  np.testing.assert_allclose(x, jax.jit(jax.vmap(jax.vmap(one)))(h, key), atol=1e-4)
  other, _ = reveal(
    h.at[:, 0].add(1.0)
  )  # another condition of one patch moves no other
  moved = abs(other - x).max(-1) > 1e-6
  assert moved[:, 0].all() and not moved[:, 1:].any()
