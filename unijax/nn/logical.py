"""Names for the axes of arrays, which a mesh may spread over devices.

Modules speak of `batch` or `act_heads`; which mesh axes that means, if any, is said
once by whoever calls them (`unijax.scale.rules`). Outside `use` nothing is constrained,
so the model runs unchanged on one device.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping

import jax
from jax.sharding import Mesh, PartitionSpec

Rules = Mapping[str, tuple[str, ...]]  # logical name -> mesh axes; () is replicated

_ACTIVE: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar(
  "unijax_mesh", default=None
)


@contextlib.contextmanager
def use(mesh: Mesh, rules: Rules) -> Iterator[None]:
  """While open, functions traced in this thread are laid out over `mesh` by `rules`."""
  token = _ACTIVE.set((mesh, rules))
  try:
    with jax.set_mesh(mesh):
      yield
  finally:
    _ACTIVE.reset(token)


def mesh() -> Mesh | None:
  """Returns the mesh in use, or None on a single device."""
  active = _ACTIVE.get()
  return active[0] if active else None


def spec(*names: str | None) -> PartitionSpec:
  """Returns the mesh axes of an array whose axes have these names; None is whole.

  Raises:
    KeyError: a name that the rules do not have.
  """
  active = _ACTIVE.get()
  if active is None:
    return PartitionSpec()
  return PartitionSpec(*(active[1][n] or None if n else None for n in names))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Asks for a layout of an activation; does nothing where no mesh is in use."""
  if _ACTIVE.get() is None:
    return x
  return jax.lax.with_sharding_constraint(x, spec(*names))
