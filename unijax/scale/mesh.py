"""The mesh of devices, from the `mesh` section of a config.

Its axes, from the slowest network to the fastest:

  replica  copies of everything; the only axis between slices by default
  fsdp     rows, and the storage of parameters and optimizer state
  expert   experts of a mixture; rows elsewhere
  context  positions of a row; keys and values are gathered
  tensor   heads, hidden units, vocabulary

Each has a degree inside a slice (ICI) and one between slices (DCN); their product is
its size.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from unijax.config import Config, ConfigError, MeshConfig

AXES = ("replica", "fsdp", "expert", "context", "tensor")
ROWS = ("replica", "fsdp", "expert")  # what the rows of a batch are divided over

# Degrees inside a slice; -1 fills what is left, an axis not named has degree 1.
PRESETS = {
  "dp": {"replica": -1},
  "fsdp": {"fsdp": -1},
  "fsdp_tp": {"fsdp": -1, "tensor": 4},
  "fsdp_cp": {"fsdp": -1, "context": 4},
  "fsdp_ep": {"fsdp": -1, "expert": 4},
}


def degrees(config: MeshConfig, devices: int, slices: int = 1):
  """Resolves the degrees for a number of devices.

  Args:
    config: mesh section of a config.
    devices: in all.
    slices: groups of devices with a fast network inside.

  Returns:
    (inside, between): axis -> degree; the products are devices / slices and slices.

  Raises:
    ConfigError: the degrees do not multiply to the devices; says which would.
  """
  m = config
  preset = PRESETS[m.preset]
  given = dict(
    zip(AXES, (m.replica, m.fsdp, m.expert, m.context, m.tensor), strict=True)
  )
  inside = {axis: n or preset.get(axis, 1) for axis, n in given.items()}
  between = dict(
    zip(
      AXES,
      (m.dcn_replica, m.dcn_fsdp, m.dcn_expert, m.dcn_context, m.dcn_tensor),
      strict=True,
    )
  )
  if devices % slices:
    raise ConfigError(f"{devices} devices are not {slices} slices of equal size")
  where = f"mesh ({m.preset})"
  return (
    _fill(inside, devices // slices, f"{where}: degrees inside a slice", "mesh."),
    _fill(between, slices, f"{where}: degrees between slices", "mesh.dcn_"),
  )


def _fill(given: dict[str, int], total: int, what: str, prefix: str) -> dict[str, int]:
  """Replaces the -1 by what is left of `total`."""
  shown = ", ".join(f"{prefix}{a}={n}" for a, n in given.items() if n != 1) or "all 1"
  open_axes = [axis for axis, n in given.items() if n == -1]
  if len(open_axes) > 1:
    raise ConfigError(
      f"{what}: only one may be -1, got {shown}: give one of "
      f"{', '.join(prefix + a for a in open_axes)} a number"
    )
  known = math.prod(n for n in given.values() if n != -1)
  if open_axes and total % known == 0:
    return {**given, open_axes[0]: total // known}
  if not open_axes and known == total:
    return given
  if open_axes:
    fits = [n for n in range(1, total + 1) if total % n == 0]
    fix = f"the others multiply to {known}, which must be one of {fits}"
  else:
    fix = f"they multiply to {known}: set one of them to -1 to fill what is left"
  raise ConfigError(f"{what} must multiply to {total} devices, got {shown}; {fix}")


def count_slices(devices: Sequence[jax.Device]) -> int:
  """Returns how many slices the devices belong to."""
  return len({getattr(d, "slice_index", 0) for d in devices})


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None, slices=None
) -> Mesh:
  """Lays devices out so that the fast axes lie on the fast network.

  Args:
    config: mesh section of a config.
    devices: all of the program if not given.
    slices: how many slices they form; counted if not given.

  Raises:
    ConfigError: as `degrees`.
  """
  devices = list(jax.devices() if devices is None else devices)
  real = count_slices(devices)
  inside, between = degrees(config, len(devices), slices or real)
  ici, dcn = tuple(inside.values()), tuple(between.values())
  if real > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      ici, dcn, devices, allow_split_physical_axes=True
    )
  elif math.prod(dcn) > 1:  # simulated slices: consecutive devices
    grid = np.array(devices).reshape(dcn + ici)
    order = [axis for pair in zip(range(5), range(5, 10), strict=True) for axis in pair]
    grid = grid.transpose(order).reshape(np.multiply(dcn, ici))
  else:
    grid = mesh_utils.create_device_mesh(ici, devices, allow_split_physical_axes=True)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def training_mesh(config: Config) -> Mesh | None:
  """Returns the mesh of a training run, or None where the program has one device."""
  if jax.device_count() == 1:
    degrees(config.mesh, 1)  # a config for a pod says so here rather than nowhere
    return None
  return make_mesh(config.mesh)


def row_shards(mesh: Mesh) -> int:
  """Returns into how many parts the rows of a batch are cut."""
  return math.prod(mesh.shape[axis] for axis in ROWS)
