"""Laws of choosing a token: the filters by their definitions, the draw by its counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unijax.infer import text_sampling
from unijax.infer.text_sampling import TextSampling

P = np.array([0.05, 0.4, 0.1, 0.25, 0.2])  # of five tokens
LOGITS = jnp.log(jnp.asarray(P, jnp.float32))
DRAWS = 4000


def knobs(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
  return TextSampling(
    jnp.float32(temperature), jnp.int32(top_k), jnp.float32(top_p), jnp.float32(min_p)
  )


def kept(**changes) -> set[int]:
  (row,) = text_sampling.keep(LOGITS[None], knobs(**changes))
  return set(np.flatnonzero(row).tolist())


@jax.jit
def draw(seed, s):
  keys = jax.random.split(jax.random.key(seed), DRAWS)
  return text_sampling.sample(jnp.broadcast_to(LOGITS, (DRAWS, 5)), keys, s)


def shares(**changes):
  return np.bincount(np.asarray(draw(0, knobs(**changes))), minlength=5) / DRAWS


@pytest.mark.parametrize(
  ("changes", "tokens"),
  [
    ({}, {0, 1, 2, 3, 4}),
    ({"top_k": 1}, {1}),
    ({"top_k": 3}, {1, 3, 4}),
    ({"top_k": 99}, {0, 1, 2, 3, 4}),
    ({"top_p": 0.39}, {1}),
    ({"top_p": 0.41}, {1, 3}),  # the token that crosses the mass is kept
    ({"top_p": 0.66}, {1, 3, 4}),
    ({"top_p": 0.0}, {1}),
    ({"min_p": 0.499}, {1, 3, 4}),  # of 0.4: 0.2 and more
    ({"min_p": 0.52}, {1, 3}),
    ({"min_p": 1.0}, {1}),
    ({"top_k": 4, "top_p": 0.9, "min_p": 0.3}, {1, 3, 4}),
  ],
)
def test_filters(changes, tokens):
  assert kept(**changes) == tokens


def test_the_draw_has_the_probabilities_of_what_is_kept():
  error = 4 * 0.5 / DRAWS**0.5
  assert abs(shares() - P).max() < error
  hot = P**0.5 / (P**0.5).sum()
  assert abs(shares(temperature=2.0) - hot).max() < error
  top = np.where(P >= 0.2, P, 0) / P[P >= 0.2].sum()
  assert abs(shares(top_k=3) - top).max() < error
  assert abs(shares(top_p=0.7) - top).max() < error
  assert (shares(top_k=3) > 0).tolist() == (top > 0).tolist()


def test_filters_act_at_the_temperature():
  # At 0.5 the probabilities are 0.4^2 / 0.27, ...: the first alone has 0.59.
  assert (shares(temperature=0.5, top_p=0.55) > 0).sum() == 1
  assert (shares(temperature=1.0, top_p=0.55) > 0).sum() == 2


def test_temperature_zero_is_greedy_whatever_else():
  assert set(np.asarray(draw(0, knobs(temperature=0.0, top_k=3)))) == {1}
  assert set(np.asarray(draw(0, knobs(temperature=1e-3)))) == {1}


def test_rows_are_drawn_by_their_own_keys():
  logits = jnp.zeros((64, 50))
  keys = jax.vmap(jax.random.key)(jnp.arange(64))
  tokens = text_sampling.sample(logits, keys, knobs())
  assert len(set(np.asarray(tokens))) > 20
  swapped = text_sampling.sample(logits, keys[::-1], knobs())
  assert (swapped[::-1] == tokens).all()


def test_forbidden_tokens_stay_forbidden_at_any_temperature():
  logits = jnp.where(jnp.arange(5) == 1, text_sampling.MASKED, LOGITS)
  keys = jax.random.split(jax.random.key(0), 200)
  for temperature in (0.0, 0.01, 1.0, 100.0):
    tokens = text_sampling.sample(
      jnp.broadcast_to(logits, (200, 5)), keys, knobs(temperature=temperature)
    )
    assert 1 not in np.asarray(tokens)
