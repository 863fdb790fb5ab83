"""`unijax mesh explain`: how a config's state lies on a mesh that need not be here."""

import math

import jax
from jax.sharding import AbstractMesh, AxisType

from unijax.config import Config
from unijax.data.tokenizer import make_tokenizer, vocabulary_of
from unijax.report import plain_table
from unijax.scale.mesh import AXES, degrees
from unijax.train import stages
from unijax.train.functions import StepFunctions

MIB = 1 << 20
MOST_WHOLE = 0.02  # share of the parameters that may lie whole on every device


def run(config: Config, devices: int, slices: int) -> dict:
  """Prints a table of all parameters and the bytes a device holds of everything.

  Raises:
    ConfigError: degrees, rules or sizes that do not fit, all of them named.
  """
  mesh = abstract(config, devices, slices)
  sizes = tuple(mesh.shape[axis] for axis in AXES)
  vocab = vocabulary_of(config, make_tokenizer(config.data.tokenizer)).size
  placed = StepFunctions(config, vocab, mesh).layout.placed
  params = jax.tree.leaves(placed.params)
  print(plain_table(
    ["parameter", "shape", "axes", "on the mesh", "MiB a device", "parts"],
    [_row(p, mesh) for p in params], left=(0, 1, 2, 3),
  ))  # fmt: skip
  if trained := stages.table(config, placed.params):
    print(f"\n{trained}")
  held = bytes_a_device(placed, mesh)
  total = sum(p.size for p in params)
  whole = sum(p.size for p in params if p.shards(mesh) == 1) / total
  mesh_text = " x ".join(f"{a} {n}" for a, n in zip(AXES, sizes, strict=True) if n > 1)
  print(
    f"\n{devices} devices in {slices} slice{'s' * (slices > 1)}: {mesh_text or '1'}"
  )
  for name, size in held.items():
    print(f"{name:>11}: {size / MIB:,.1f} MiB a device")
  warning = ""
  if whole > MOST_WHOLE and math.prod(sizes) > 1:
    warning = f"  (more than {MOST_WHOLE:.0%}: a larger model would not fit)"
  print(f"whole on every device: {whole:.2%} of the parameters{warning}")
  return {
    "verb": "mesh",
    "devices": devices,
    "slices": slices,
    "mesh": dict(zip(AXES, sizes, strict=True)),
    "parameters": sum(math.prod(p.shape) for p in params),
    "bytes_a_device": {name: round(size) for name, size in held.items()},
    "whole_share": whole,
    "stages": [
      {"stage": row.stage, "trained": row.trained, "frozen": row.frozen}
      for row in stages.rows(config, placed.params)
    ],
  }


def abstract(config: Config, devices: int, slices: int = 1) -> AbstractMesh:
  """The mesh of a config on devices that need not be here."""
  inside, between = degrees(config.mesh, devices, slices)
  sizes = tuple(inside[axis] * between[axis] for axis in AXES)
  return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def bytes_a_device(placed, mesh) -> dict[str, float]:
  """Bytes that a device holds of a state of `rules.Placement`, by what they are for."""
  return {
    name: sum(p.size / p.shards(mesh) for p in jax.tree.leaves(tree))
    for name, tree in (
      ("params", placed.params), ("ema_params", placed.ema_params),
      ("optimizer", placed.opt_state),
    )
  }  # fmt: skip


def _row(p, mesh) -> list[str]:
  axes = ", ".join(name or "-" for name in p.names)
  spec = ", ".join(
    "-" if entry is None else entry if isinstance(entry, str) else "+".join(entry)
    for entry in (*p.spec, *[None] * (len(p.shape) - len(p.spec)))
  )
  parts = p.shards(mesh)
  shape = " x ".join(map(str, p.shape)) or "-"
  size = f"{p.size / parts / MIB:,.3f}"
  return ["/".join(p.path[1:]), shape, axes, spec, size, str(parts)]
