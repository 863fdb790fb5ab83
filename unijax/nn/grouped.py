"""Matrix products in which each group of rows has weights of its own.

Rows lie sorted by group, so that a group is a run of rows; how long it is may differ
from call to call, the number of rows may not. On TPU this is `jax.lax.ragged_dot`.
Elsewhere that multiplies all rows by all weights and picks (measured: exactly as slow
as doing so by hand), so there each group is cut into blocks of static sizes, and only
blocks that hold something of the group are multiplied: at most the smallest block less
one row a group is computed in vain. The gradient of a group's weights is one product
with as many rows as the next size of a ladder has, or a sum of the largest.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from unijax.nn import logical

BLOCKS = (256, 128, 64, 32)  # rows of a product; a group is cut into the largest first
# Rows of the products that gradients of weights are.
LADDER = tuple(range(32, 1025, 32))
NATIVE = ("tpu",)  # platforms whose compiler has a ragged product


def product(x_MD, weights, sizes_E) -> jax.Array:
  """Multiplies row m of group e by weights[e].

  Args:
    x_MD: rows sorted by group.
    weights: [E, D, F], or a tuple of E arrays [D, F], which saves stacking them.
    sizes_E: int32, rows of each group; their sum is at most M.

  Returns:
    [M, F]. Rows after the last group are arbitrary but finite, and have no gradient as
    long as nothing that reads them has one.
  """
  if logical.platform() in NATIVE:
    stacked = jnp.stack(weights) if isinstance(weights, tuple) else weights
    return jax.lax.ragged_dot(x_MD, stacked, sizes_E)
  return _product(x_MD, weights, sizes_E)


@jax.custom_vjp
def _product(x_MD, weights, sizes_E):
  return _rows(x_MD, weights, sizes_E, 0)


def _forward(x_MD, weights, sizes_E):
  return _rows(x_MD, weights, sizes_E, 0), (x_MD, weights, sizes_E)


def _backward(saved, dy_MF):
  # As in `layers.matmul`: nothing elementwise may be fused into the products.
  (x_MD, weights, sizes_E), dy_MF = jax.lax.optimization_barrier((saved, dy_MF))
  dx_MD = _rows(dy_MF, weights, sizes_E, 1)
  return dx_MD, _outer(x_MD, dy_MF, weights, sizes_E), None


_product.defvjp(_forward, _backward)


def mlp(activate: Callable, x_MD, first, down_EFD, sizes_E) -> jax.Array:
  """An MLP a group: activate(x @ first[0], ..) @ down.

  Equals calls of `product`. Where groups are cut into blocks, all of a block is done
  while it is in the processor's cache: between products of thousands of rows, arrays as
  large as those would be written and read a dozen times.

  Args:
    activate: elementwise; makes hidden units of as many arrays as there are in `first`.
    x_MD: rows sorted by group.
    first: weights [E, D, F] of the groups, one or several.
    down_EFD: weights of the way out.
    sizes_E: int32, rows of each group; their sum is at most M.

  Returns:
    [M, D], as `product` does.
  """
  if logical.platform() in NATIVE:
    hidden = activate(*(product(x_MD, w_EDF, sizes_E) for w_EDF in first))
    return product(hidden, down_EFD, sizes_E)
  return _mlp(activate, x_MD, tuple(first), down_EFD, sizes_E)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mlp(activate, x_MD, first, down_EFD, sizes_E):
  return _mlp_forward(activate, x_MD, first, down_EFD, sizes_E)[0]


def _mlp_forward(activate, x_MD, first, down_EFD, sizes_E):
  def of_group(e):
    into, down_FD = [w[e] for w in first], down_EFD[e]

    def block(x):
      made = [x @ w_DF for w_DF in into]
      return (activate(*made) @ down_FD, *made)

    return block

  y_MD, *made = _blocks(of_group, (x_MD,), sizes_E)
  return y_MD, (x_MD, tuple(made), first, down_EFD, sizes_E)


def _mlp_backward(activate, saved, dy_MD):
  saved, dy_MD = jax.lax.optimization_barrier((saved, dy_MD))
  x_MD, made, first, down_EFD, sizes_E = saved

  def of_group(e):
    back, down_DF = [w[e].T for w in first], down_EFD[e].T

    def block(dy, *made):
      hidden, pull = jax.vjp(activate, *made)
      d_made = pull(dy @ down_DF)
      dx = sum(d @ w_FD for d, w_FD in zip(d_made, back, strict=True))
      return (dx, hidden, *d_made)

    return block

  dx_MD, hidden_MF, *d_made = _blocks(of_group, (dy_MD, *made), sizes_E)
  d_first = tuple(
    _outer(x_MD, d_MF, w, sizes_E) for d_MF, w in zip(d_made, first, strict=True)
  )
  return dx_MD, d_first, _outer(hidden_MF, dy_MD, down_EFD, sizes_E), None


_mlp.defvjp(_mlp_forward, _mlp_backward)


def _over_groups(count: int, unrolled: bool, sizes_E, carry, group: Callable):
  """Runs group(number, first row, row after the last, carry) over the groups."""
  stop_E = jnp.cumsum(sizes_E)

  def one(e, carry):
    return group(e, stop_E[e] - sizes_E[e], stop_E[e], carry)

  if unrolled:
    for e in range(count):
      carry = one(e, carry)
    return carry
  return jax.lax.fori_loop(0, count, one, carry)


def _rows(x_MA, weights, sizes_E, contract: int):
  """Contracts rows with axis `contract` of their group's weights."""
  dims = (((1,), (contract,)), ((), ()))

  def of_group(e):
    w = weights[e]
    return lambda x: (jax.lax.dot_general(x, w, dims),)

  return _blocks(of_group, (x_MA,), sizes_E, isinstance(weights, tuple))[0]


def _blocks(of_group: Callable, given, sizes_E, unrolled: bool = False):
  """Maps arrays [M, ..] to arrays [M, ..], a block of the rows of one group at a time.

  A block may reach past its group: the groups after it, which come later, write over
  that. At the end of the arrays it is moved back, and what lay there before is kept.

  Args:
    of_group: e -> a function from blocks of `given` to a tuple of blocks.
    given: arrays whose rows are sorted by group.
    sizes_E: rows of each group.
    unrolled: e is a number at trace time.
  """
  rows = len(given[0])
  sizes = [size for size in BLOCKS if size <= rows] or [rows]
  some = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in given]
  made = jax.eval_shape(lambda *some: of_group(0)(*some), *some)
  made = tuple(jnp.zeros((rows, *x.shape[1:]), x.dtype) for x in made)

  def group(e, start, stop, made):
    apply = of_group(e)

    def block(first, size, made):
      at = jnp.minimum(first, rows - size)
      keep = (at + jnp.arange(size) < first)[:, None]

      def cut(x):
        return jax.lax.dynamic_slice_in_dim(x, at, size)

      def put(y, new):
        new = jnp.where(keep, cut(y), new)
        return jax.lax.dynamic_update_slice_in_dim(y, new, at, 0)

      return tuple(map(put, made, apply(*map(cut, given))))

    for size in sizes:
      left = stop - start
      count = -(-left // size) if size == sizes[-1] else left // size

      def run(i, made, start=start, size=size):
        return block(start + i * size, size, made)

      made = jax.lax.fori_loop(0, count, run, made)
      start = start + count * size
    return made

  return _over_groups(len(sizes_E), unrolled, sizes_E, made, group)


def _outer(x_MD, dy_MF, weights, sizes_E):
  """The gradients of the weights: x^T dy over the rows of each group.

  One product a group, of the size in LADDER that holds it: a sum of blocks would read
  and write a gradient as large as the weights for every block. Rows beyond the largest
  size are added in blocks of it.
  """
  rows, (wide, narrow) = x_MD.shape[0], (x_MD, dy_MF)
  # The left operand is transposed: the smaller one, unless the result, which is turned
  # instead, costs as much.
  flip = x_MD.shape[1] > 2 * dy_MF.shape[1]
  if flip:
    wide, narrow = narrow, wide
  ladder = [size for size in LADDER if size <= rows] or [rows]

  def block(start, stop, size):
    at = jnp.minimum(start, rows - size)
    left, right = (jax.lax.dynamic_slice_in_dim(a, at, size) for a in (wide, narrow))
    row = at + jnp.arange(size)
    left = jnp.where(((row >= start) & (row < stop))[:, None], left, 0)
    contract = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(
      left, right, contract, preferred_element_type=jnp.float32
    )

  def of_group(start, stop):
    largest, count = ladder[-1], stop - start
    fits = jnp.searchsorted(jnp.asarray(ladder), count).clip(max=len(ladder) - 1)
    sizes = [lambda size=size: block(start, stop, size) for size in ladder]
    dw = jax.lax.switch(fits, sizes)
    more = jnp.maximum(-(-count // largest) - 1, 0)

    def add(i, dw):
      return dw + block(start + (i + 1) * largest, stop, largest)

    dw = jax.lax.fori_loop(0, more, add, dw)
    return dw.T if flip else dw

  if isinstance(weights, tuple):
    stop_E = jnp.cumsum(sizes_E)
    return tuple(
      of_group(stop_E[e] - sizes_E[e], stop_E[e]).astype(w.dtype)
      for e, w in enumerate(weights)
    )

  def group(e, start, stop, dw_EDF):
    return dw_EDF.at[e].set(of_group(start, stop).astype(dw_EDF.dtype))

  return _over_groups(len(weights), False, sizes_E, jnp.zeros_like(weights), group)


@jax.custom_vjp
def permute(x_MD, order_M, place_M):
  """x_MD[order_M], of an order whose inverse is `place_M`: gathers in both directions.

  The gradient of an indexed read is an indexed addition, which CPUs do row by row;
  that of a permutation is another read.
  """
  return jnp.take(x_MD, order_M, axis=0, mode="clip")


def _permute_forward(x_MD, order_M, place_M):
  return permute(x_MD, order_M, place_M), (order_M, place_M)


def _permute_backward(saved, dy_MD):
  order_M, place_M = saved
  return jnp.take(dy_MD, place_M, axis=0, mode="clip"), None, None


permute.defvjp(_permute_forward, _permute_backward)


def inverse(order_M) -> jax.Array:
  """The permutation that undoes another: inverse(order)[order[m]] = m."""
  index = jnp.arange(order_M.shape[0], dtype=jnp.int32)
  return jnp.zeros_like(index).at[order_M].set(index, unique_indices=True)
