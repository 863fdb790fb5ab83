"""Names for the axes of arrays, which a mesh may spread over devices.

Modules speak of `batch` or `act_heads`; which mesh axes that means, if any, is said
once by whoever calls them (`unijax.scale.rules`). Outside `use` nothing is constrained,
so the model runs unchanged on one device.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Mapping

import jax
from jax.sharding import Mesh, PartitionSpec

Rules = Mapping[str, tuple[str, ...]]  # logical name -> mesh axes; () is replicated

_ACTIVE: contextvars.ContextVar[tuple[Mesh, Rules] | None] = contextvars.ContextVar(
  "unijax_mesh", default=None
)
_PLATFORM: contextvars.ContextVar[str] = contextvars.ContextVar(
  "unijax_platform", default=""
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


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
  """While open, functions traced in this thread are those of a platform, to be read."""
  token = _PLATFORM.set(platform)
  try:
    yield
  finally:
    _PLATFORM.reset(token)


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


def platform() -> str:
  """Returns cpu, gpu or tpu: where functions traced now will run.

  A mesh may be of devices that are only compiled for, so it is asked first.
  """
  if _PLATFORM.get():
    return _PLATFORM.get()
  active = mesh()
  return active.devices.flat[0].platform if active else jax.default_backend()


def mesh_axes(name: str) -> tuple[str, ...]:
  """Returns the mesh axes that an axis of this name is divided over."""
  axes = spec(name)
  parts = axes[0] if axes else None
  return (parts,) if isinstance(parts, str) else parts or ()


def ways(name: str) -> int:
  """Returns into how many parts an axis of this name is divided."""
  return math.prod(mesh().shape[axis] for axis in mesh_axes(name))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Asks for a layout of an activation; without a mesh returns it unchanged."""
  if _ACTIVE.get() is None:
    return x
  return jax.lax.with_sharding_constraint(x, spec(*names))


def per_device(function: Callable, inputs: tuple, output: tuple) -> Callable:
  """Returns `function`, run by every device on its own part of the arrays.

  Args:
    function: of arrays, or trees of arrays of one layout.
    inputs: for each argument the names of its axes; an axis that is whole on every
      device is gathered first, and its gradients are summed over the devices.
    output: names of the result's axes.
  """
  if mesh() is None:
    return function
  specs = tuple(spec(*names) for names in inputs)
  return jax.shard_map(
    function, mesh=mesh(), in_specs=specs, out_specs=spec(*output), check_vma=False
  )
