"""Laws of attention and rotary positions, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unijax.nn import attention_dense, rope
from unijax.nn.attention_dense import attend

B, T, S, H, G, K = 2, 5, 7, 4, 2, 8


def arrays(seed=0, dtype=jnp.float32):
  """Queries, keys, values and a mask in which every query sees something."""
  keys = jax.random.split(jax.random.key(seed), 4)
  q, k, v = (
    jax.random.normal(key, shape).astype(dtype)
    for key, shape in zip(
      keys, [(B, T, H, K), (B, S, G, K), (B, S, G, K)], strict=False
    )
  )
  mask = jax.random.bernoulli(keys[3], 0.6, (B, T, S)).at[:, :, 2].set(True)
  return q, k, v, mask


def defined(q, k, v, mask):
  """Head by head; query head h reads key head h // (H / G)."""
  heads = []
  for h in range(H):
    g = h // (H // G)
    scores = q[:, :, h] @ k[:, :, g].swapaxes(1, 2) / K**0.5
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    heads.append(weights @ v[:, :, g])
  return jnp.stack(heads, axis=2)


def test_attention_is_its_definition():
  q, k, v, mask = arrays()
  got = attend(q, k, v, mask)
  np.testing.assert_allclose(got, defined(q, k, v, mask), atol=1e-5)


def divided(q, k, v, mask, cut: int):
  """`attend` with the first keys in a cache."""
  first, rest = slice(cut), slice(cut, None)
  cached = k[:, first].swapaxes(1, 2), v[:, first].swapaxes(1, 2), mask[:, :, first]
  return attend(q, k[:, rest], v[:, rest], mask[:, :, rest], cached)


@pytest.mark.parametrize("cut", [1, 3])
def test_keys_of_a_cache_are_keys(cut):
  q, k, v, mask = arrays(1)
  one, two = attend(q, k, v, mask), divided(q, k, v, mask, cut)
  np.testing.assert_allclose(two, one, atol=1e-5)


def test_a_row_without_a_past_is_bit_for_bit_the_same_beside_one_with_one(monkeypatch):
  q, k, v, mask = arrays(1)
  past = jnp.arange(S) < 4
  mask = (mask & (~past | (jnp.arange(B) > 0)[:, None])[:, None]).at[:, :, 5].set(True)
  monkeypatch.setattr(
    attention_dense, "LONG_CALL", T
  )  # asks whether the cache is empty
  asked = jax.jit(lambda *arrays: divided(*arrays, 4))
  assert "stablehlo.case" in asked.lower(q, k, v, mask).as_text()
  whole = asked(q, k, v, mask)
  alone = asked(q, k, v, mask.at[1, :, :4].set(False))  # no row has a past now
  assert (alone[1] != whole[1]).any()
  np.testing.assert_array_equal(alone[0], whole[0])


def gradients(function, dtype=jnp.float32):
  q, k, v, mask = arrays(2, dtype)
  weight = jax.random.normal(jax.random.key(9), (B, T, H, K))

  def loss(q, k, v):
    return (function(q, k, v, mask).astype(jnp.float32) * weight).sum()

  return jax.grad(loss, (0, 1, 2))(q, k, v)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_those_of_the_definition(groups):
  def ours(q, k, v, mask):
    if groups == 1:
      return attend(q, k, v, mask)
    return divided(q, k, v, mask, 3)

  for got, want in zip(gradients(ours), gradients(defined), strict=True):
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_bfloat16_is_close_and_stays_bfloat16():
  def ours(q, k, v, mask):
    return attend(q, k, v, mask)

  q, k, v, mask = arrays(0, jnp.bfloat16)
  got = ours(q, k, v, mask)
  assert got.dtype == jnp.bfloat16
  exact = defined(*(x.astype(jnp.float32) for x in (q, k, v)), mask)
  np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=0.03)
  for low, high in zip(gradients(ours, jnp.bfloat16), gradients(defined), strict=True):
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.15)


def test_a_query_that_sees_nothing_gives_no_nan():
  q, k, v, mask = arrays()
  nothing = mask.at[0, 1].set(False)
  assert jnp.isfinite(attend(q, k, v, nothing)).all()
  assert jnp.isfinite(divided(q, k, v, nothing, 3)).all()


def turned(x, position, scheme, theta=100.0):
  """x [K] at a position of three numbers."""
  position = jnp.asarray(position, jnp.int32).reshape(1, 1, 3)
  sin_cos = rope.rotation(position, K, theta, scheme)
  return rope.rotate(x.reshape(1, 1, 1, K), sin_cos).reshape(K)


X, Y = jax.random.normal(jax.random.key(0), (2, K))


def test_rotation_by_its_definition():
  got = turned(X, (3, 0, 0), "sequential")
  angle = 3.0 * 100.0 ** (-np.arange(K // 2) / (K // 2))
  z = (np.asarray(X[: K // 2]) + 1j * np.asarray(X[K // 2 :])) * np.exp(1j * angle)
  np.testing.assert_allclose(got, np.concatenate([z.real, z.imag]), atol=1e-6)


@pytest.mark.parametrize("scheme", rope.AXES)
def test_scores_depend_on_distance_only(scheme):
  a, b, far = np.array([2, 5, 1]), np.array([7, 3, 4]), np.array([11, 13, 17])
  near = turned(X, a, scheme) @ turned(Y, b, scheme)
  moved = turned(X, a + far, scheme) @ turned(Y, b + far, scheme)
  assert near == pytest.approx(float(moved), abs=1e-4)
  assert abs(near - X @ Y) > 1e-2
  assert jnp.linalg.norm(turned(X, far, scheme)) == pytest.approx(
    float(jnp.linalg.norm(X)), rel=1e-5
  )


def test_grid_is_the_one_dimensional_scheme_on_text_and_sees_both_axes():
  for i in (0, 4, 30):
    same = [turned(X, (i, i, i), scheme) for scheme in ("grid", "sequential")]
    np.testing.assert_allclose(*same, atol=1e-6)
  base = turned(X, (1, 2, 3), "grid")
  assert (turned(X, (9, 2, 3), "grid") == base).all()
  assert (turned(X, (1, 9, 3), "grid") != base).any()
  assert (turned(X, (1, 2, 9), "grid") != base).any()
