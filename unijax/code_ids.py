"""Where the codes of images stand in the token table.

They are consecutive, behind all text, or where a released tokenizer has put them: then
`data.code_ids` lists the id of code 0, of code 1, and so on.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class CodeIds:
  """Ids of codes 0 .. count - 1.

  Attributes:
    first: id of code 0, where they are consecutive.
    count: of codes; 0 where images are no codes.
    listed: ids of all codes in their order; () where they are consecutive.
  """

  first: int
  count: int
  listed: tuple[int, ...] = ()

  @functools.cached_property
  def ids(self) -> np.ndarray:
    """int32 [count]."""
    if self.listed:
      return np.asarray(self.listed, np.int32)
    return np.arange(self.first, self.first + self.count, dtype=np.int32)

  def of(self, codes):
    """Ids of codes: an int32 array of the same shape, of NumPy or of JAX."""
    if not self.listed:
      return self.first + codes
    return (np if isinstance(codes, np.ndarray) else jnp).take(self.ids, codes)

  def codes(self, ids: np.ndarray) -> np.ndarray:
    """The inverse of `of`; ids that are no code's give anything."""
    order = np.argsort(self.ids)
    at = np.searchsorted(self.ids, ids, sorter=order)
    return order[np.minimum(at, self.count - 1)].astype(np.int32)

  def __contains__(self, token: int) -> bool:
    return token in self._known

  @functools.cached_property
  def _known(self) -> frozenset[int]:
    return frozenset(self.ids.tolist())

  def among(self, size: int) -> np.ndarray:
    """Which ids of a table of `size` rows are codes: bool [size]."""
    found = np.zeros(size, bool)
    found[self.ids] = True
    return found

  def pick(self, x, axis: int = -1) -> jax.Array:
    """What belongs to the codes, of an array with an axis [V]: there [count]."""
    if not self.listed:
      end = self.first + self.count
      return jax.lax.slice_in_dim(x, self.first, end, axis=axis)
    return jnp.take(x, self.ids, axis=axis)
