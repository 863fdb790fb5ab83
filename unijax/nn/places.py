"""Where patches of a picture stand: rows and columns, what sees what, rotations.

Pictures of one size are squares, in raster order. Those that keep their own shape
(`data.fit` "native") bring their grids: the patches of what a connector makes one
position stand together, rows first, and so do these squares; padding follows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROPE_THETA = 10000.0  # Su et al. 2021


class Places(NamedTuple):
  """Places of P patches of B pictures; B is 1 where they are the same in all.

  Attributes:
    row_BP, column_BP: in patches, whole or scaled.
    inside_BP: bool, False at padding; None: there is none.
  """

  row_BP: np.ndarray | jax.Array
  column_BP: np.ndarray | jax.Array
  inside_BP: jax.Array | None = None


def square(grid: int) -> Places:
  """Of a square in raster order."""
  rows, columns = np.divmod(np.arange(grid**2), grid)
  return Places(rows[None], columns[None])


def native(grid_B2, count: int, factor: int) -> Places:
  """Of pictures of any shape.

  Args:
    grid_B2: int, rows and columns of patches; 0 where there is no picture.
    count: patches, with padding.
    factor: patches a side of what stands together.
  """
  group, inside = jnp.divmod(jnp.arange(count), factor**2)
  across = jnp.maximum(grid_B2[:, 1:] // factor, 1)
  row = group // across * factor + inside // factor
  column = group % across * factor + inside % factor
  return Places(row, column, jnp.arange(count) < grid_B2.prod(axis=1)[:, None])


def seen(places: Places) -> jax.Array:
  """bool [B, P, P] or [1, 1, 1]: patches see all of their picture, padding itself."""
  if places.inside_BP is None:
    return jnp.ones((1, 1, 1), bool)
  return places.inside_BP[:, :, None] == places.inside_BP[:, None]


def near(places: Places, size: int) -> jax.Array:
  """bool [B, P, P]: which patches are in one window of `size` a side, from the first.

  Windows at the end are smaller. Those of padding count on.
  """
  same = [
    (x // size)[:, :, None] == (x // size)[:, None]
    for x in (places.row_BP, places.column_BP)
  ]
  return jnp.asarray(same[0] & same[1])


def rotation(places: Places, scale: float, prefix: int, head_dim: int):
  """(sin, cos) [B, T, 1, head_dim/2] that turn patches by row and by column.

  Half of the pairs turn with the row, half with the column, with equal frequencies;
  positions are multiplied by `scale`. The first `prefix` tokens stand nowhere and are
  not turned.
  """
  quarter = head_dim // 4
  frequencies = ROPE_THETA ** (-np.arange(quarter) / quarter)
  fixed = isinstance(places.row_BP, np.ndarray)  # then in float64
  xp = np if fixed else jnp
  angle = xp.concatenate(
    [x[..., None] * scale * frequencies for x in (places.row_BP, places.column_BP)],
    axis=-1,
  )
  angle = xp.pad(angle, ((0, 0), (prefix, 0), (0, 0)))[:, :, None]
  return tuple(jnp.asarray(f(angle), jnp.float32) for f in (xp.sin, xp.cos))
