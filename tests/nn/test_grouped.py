"""Laws of products in which each group of rows has weights of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unijax.nn import grouped

E, D, F = 4, 5, 3
ROWS = [1, 7, 40, 700]  # fewer than a block, between two, of all blocks


def reference(x, weights, sizes):
  """One product a group, in NumPy; rows after the last group are 0."""
  stops = np.cumsum(sizes)
  y = np.zeros((len(x), weights[0].shape[1]), np.float32)
  for w, start, stop in zip(weights, stops - sizes, stops, strict=True):
    y[start:stop] = x[start:stop] @ w
  return y


def reference_gradients(x, weights, sizes, dy):
  stops = np.cumsum(sizes)
  dx, dw = np.zeros_like(x), np.zeros_like(weights)
  for e, (start, stop) in enumerate(zip(stops - sizes, stops, strict=True)):
    dx[start:stop] = dy[start:stop] @ weights[e].T
    dw[e] = x[start:stop].T @ dy[start:stop]
  return dx, dw


def splits(rows: int, rng):
  """Sizes of groups: one has all, the first has none, ends short, random ones."""
  yield from ([rows, 0, 0, 0], [0, 0, 0, rows], [0, rows // 2, 0, 0], [0, 0, 0, 0])
  for _ in range(6):
    cuts = np.sort(rng.integers(0, rows + 1, E))
    yield np.diff(cuts, prepend=0)


@functools.partial(jax.jit, static_argnums=0)
def both(native: bool, x, weights, sizes, dy):
  """The product where a row belongs to a group, and its gradients."""
  there = (jnp.arange(len(x)) < sizes.sum())[:, None]

  def run(x, weights):
    return jnp.where(there, grouped.product(x, weights, sizes), 0)

  y, pull = jax.vjp(run, x, weights)
  return y, pull(dy)


@pytest.mark.parametrize("kind", ["stacked", "tuple", "native"])
@pytest.mark.parametrize("rows", ROWS)
def test_product_and_its_gradients(kind, rows, monkeypatch):
  if kind == "native":
    monkeypatch.setattr(grouped, "NATIVE", ("cpu",))
  rng = np.random.default_rng(0)
  x, weights, dy = (
    rng.standard_normal(s).astype(np.float32) for s in ((rows, D), (E, D, F), (rows, F))
  )
  for sizes in splits(rows, rng):
    sizes = np.asarray(sizes, np.int32)
    given = tuple(weights) if kind == "tuple" else weights
    y, (dx, dw) = both(kind == "native", x, given, sizes, dy)
    np.testing.assert_allclose(y, reference(x, weights, sizes), atol=1e-4)
    want = reference_gradients(x, weights, sizes, dy)
    np.testing.assert_allclose(dx, want[0], atol=1e-4, err_msg=sizes)
    np.testing.assert_allclose(np.stack(dw), want[1], atol=1e-3, err_msg=sizes)


def test_wide_weights_have_the_same_gradient():
  """The product of the gradient transposes its smaller side: here it is the other."""
  rng = np.random.default_rng(0)
  x, weights, dy = (
    rng.standard_normal(s).astype(np.float32) for s in ((40, F), (E, F, D), (40, D))
  )
  sizes = np.array([3, 20, 0, 17], np.int32)
  dx, dw = both(False, x, weights, sizes, dy)[1]
  want = reference_gradients(x, weights, sizes, dy)
  np.testing.assert_allclose(dx, want[0], atol=1e-4)
  np.testing.assert_allclose(dw, want[1], atol=1e-4)


def swiglu(gate, up):
  return jax.nn.silu(gate) * up


def by_row(activate, x, first, down, sizes):
  """Every row by the weights of its group."""
  e = jnp.searchsorted(jnp.cumsum(sizes), jnp.arange(len(x)), side="right")
  *first, down = (jnp.take(w, e, axis=0, mode="clip") for w in (*first, down))
  hidden = activate(*(jnp.einsum("md,mdf->mf", x, w) for w in first))
  return jnp.einsum("mf,mfd->md", hidden, down)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def both_of_mlp(run, native: bool, activate, x, first, down, sizes, dy):
  """An MLP where a row belongs to a group, and its gradients."""
  there = (jnp.arange(len(x)) < sizes.sum())[:, None]

  def masked(*given):
    return jnp.where(there, run(activate, *given, sizes), 0)

  y, pull = jax.vjp(masked, x, first, down)
  return y, pull(dy)


@pytest.mark.parametrize(
  "rows, activate, native",
  [(7, swiglu, False), (700, swiglu, False), (700, jax.nn.gelu, False),
   (700, swiglu, True)],
)  # fmt: skip
def test_an_mlp_a_group_and_its_gradients(rows, activate, native, monkeypatch):
  if native:
    monkeypatch.setattr(grouped, "NATIVE", ("cpu",))
  rng = np.random.default_rng(0)
  made = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
  first = [made(E, D, F) for _ in range(2 if activate is swiglu else 1)]
  x, down, dy = made(rows, D), made(E, F, D), made(rows, D)
  for sizes in splits(rows, rng):
    given = x, first, down, np.asarray(sizes, np.int32), dy
    y, (dx, *dw) = both_of_mlp(grouped.mlp, native, activate, *given)
    want_y, (want_dx, *want_dw) = both_of_mlp(by_row, False, activate, *given)
    np.testing.assert_allclose(y, want_y, atol=1e-4)
    there = np.sum(sizes)
    np.testing.assert_allclose(dx[:there], want_dx[:there], atol=1e-4, err_msg=sizes)
    pairs = zip(jax.tree.leaves(dw), jax.tree.leaves(want_dw), strict=True)
    for got, want in pairs:
      np.testing.assert_allclose(got, want, atol=2e-3, err_msg=sizes)


def test_weights_of_low_precision_add_up_in_float32():
  """7 blocks of ones: a sum in bfloat16 would stick at 256."""
  x = jnp.ones((700, 2), jnp.bfloat16)
  weights = (jnp.ones((2, 2), jnp.bfloat16),) * 2
  _, dw = both(False, x, weights, np.array([690, 10], np.int32), jnp.ones_like(x))[1]
  assert dw[0].dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(dw[0]), 690, rtol=0.005)
  np.testing.assert_array_equal(np.float32(dw[1]), 10)


@pytest.fixture
def run(monkeypatch) -> list[int]:
  """Rows of all products that really run from here on."""
  run = []
  dot = jax.lax.dot_general

  def counting(left, right, *more, **options):
    jax.debug.callback(lambda rows=left.shape[0]: run.append(rows))
    return dot(left, right, *more, **options)

  monkeypatch.setattr(jax.lax, "dot_general", counting)
  return run


def test_no_more_is_multiplied_than_a_small_block_a_group(run):
  """Counts the rows of all products that really run."""
  for sizes in ([617, 1431], [1, 2047], [2048, 0], [30, 0]):
    run.clear()
    y = grouped.product(
      jnp.ones((2048, D)), tuple(jnp.ones((2, D, F))), jnp.array(sizes)
    )
    jax.block_until_ready(y)
    jax.effects_barrier()
    vain = (grouped.BLOCKS[-1] - 1) * sum(n > 0 for n in sizes)
    assert sum(sizes) <= sum(run) <= sum(sizes) + vain


def test_a_gradient_is_one_product_of_the_next_size(run):
  """A block more would read and write a gradient as large as the weights."""
  largest = grouped.LADDER[-1]
  for sizes, expected in (
    ([617, 1431], [640, largest, largest]),
    ([33, 512], [64, 512]),
    ([2048, 0], [largest, largest, grouped.LADDER[0]]),
  ):
    run.clear()
    x, dy = jnp.ones((2048, D)), jnp.ones((2048, F))
    dw = grouped._outer(x, dy, tuple(jnp.ones((2, D, F))), jnp.array(sizes))
    jax.block_until_ready(dw)
    jax.effects_barrier()
    assert sorted(run) == sorted(expected)
    for w, rows in zip(dw, sizes, strict=True):
      np.testing.assert_allclose(w, rows)


def test_a_permutation_and_its_gradient():
  rng = np.random.default_rng(0)
  x, dy = (rng.standard_normal((9, 2)).astype(np.float32) for _ in range(2))
  order = jnp.asarray(rng.permutation(9), jnp.int32)
  place = grouped.inverse(order)
  y, pull = jax.vjp(lambda x: grouped.permute(x, order, place), x)
  np.testing.assert_array_equal(y, x[order])
  np.testing.assert_array_equal(pull(dy)[0][order], dy)
  np.testing.assert_array_equal(grouped.permute(y, place, order), x)
