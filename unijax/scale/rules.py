"""One table from the logical names of axes to the axes of the mesh.

Parameters, optimizer state, averages, batches and activations all get their layout
here. Storage of parameters is divided over `fsdp` (and `context`, which holds the same
weights otherwise); XLA gathers what a layer needs when it runs.
"""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unijax.config import ConfigError
from unijax.scale.mesh import ROWS

STORAGE = ("fsdp", "context")

RULES: dict[str, tuple[str, ...]] = {
  # parameters
  "embed": STORAGE,
  "vocab": ("tensor",),
  "heads": ("tensor",),
  "kv_heads": ("tensor",),
  "mlp": ("tensor",),
  "experts": ("expert",),
  "channels": (*STORAGE, "tensor"),
  "layers": (),
  "patch": (),
  "time": (),
  "norm": (),
  "head_norm": (),
  # activations
  "batch": ROWS,
  "sequence": ("context",),
  "keys": (),
  "act_embed": (),
  "act_heads": ("tensor",),
  "act_kv_heads": ("tensor",),
  "act_mlp": ("tensor",),
  "act_vocab": ("tensor",),
  "act_experts": ("expert",),
}

# Names whose dimensions come in all sizes: divided only as far as they go.
AS_FAR_AS_THEY_GO = frozenset({"channels"})


@dataclasses.dataclass(frozen=True)
class Placement:
  """Where one leaf of a state lies.

  Attributes:
    path: keys of the leaf, such as ('params', 'embedding', 'table').
    shape, dtype: of the whole array.
    names: logical name of each axis, None where it has none.
    spec: mesh axes of each axis.
  """

  path: tuple[str, ...]
  shape: tuple[int, ...]
  dtype: Any
  names: tuple[str | None, ...]
  spec: PartitionSpec

  @property
  def size(self) -> int:
    """Bytes of the whole array."""
    return math.prod(self.shape) * self.dtype.itemsize

  def shards(self, mesh: Mesh) -> int:
    """Returns how many different parts of the array there are."""
    axes = [a for entry in self.spec if entry for a in _tuple(entry)]
    return math.prod(mesh.shape[a] for a in axes)


def place(abstract, names: dict[tuple[str, ...], tuple], mesh: Mesh):
  """Lays out every leaf of a state.

  A leaf whose path ends like a parameter's and that has its shape (moments, averages)
  lies where the parameter does; all other leaves (counters, keys) are whole everywhere.

  Args:
    abstract: tree of arrays or shapes.
    names: path of each parameter -> logical names of its axes.
    mesh: to lie on.

  Returns:
    The same tree with a Placement for each leaf.

  Raises:
    ConfigError: listing every leaf with an unknown name, two dimensions on one mesh
      axis, or a dimension that does not divide; each with the tensor, rule and fix.
  """
  problems: list[str] = []

  def one(path, leaf):
    keys = tuple(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
    of = next((names[keys[i:]] for i in range(len(keys)) if keys[i:] in names), None)
    if of is None or len(of) != len(leaf.shape):
      of = (None,) * len(leaf.shape)
    spec = _spec(keys, leaf.shape, of, mesh, problems)
    return Placement(keys, tuple(leaf.shape), leaf.dtype, of, spec)

  placed = jax.tree_util.tree_map_with_path(one, abstract)
  if problems:
    raise ConfigError("\n  ".join(["the mesh does not fit:", *dict.fromkeys(problems)]))
  return placed


def shardings(placed, mesh: Mesh):
  """Turns a tree of Placements into NamedShardings."""
  return jax.tree.map(lambda p: NamedSharding(mesh, p.spec), placed)


def parameter_names(boxed) -> dict[tuple[str, ...], tuple]:
  """Reads the logical names that modules gave their parameters.

  Args:
    boxed: parameters as `module.init` returns them, shapes are enough.

  Returns:
    Path -> names of the axes; a parameter without names has None for each.
  """

  def names(leaf):
    if hasattr(leaf, "names"):
      return tuple(leaf.names)
    return (None,) * len(leaf.shape)

  leaves = jax.tree_util.tree_leaves_with_path(
    boxed, is_leaf=lambda x: hasattr(x, "names")
  )
  return {tuple(str(k.key) for k in path): names(leaf) for path, leaf in leaves}


def _spec(keys, shape, names, mesh: Mesh, problems: list[str]) -> PartitionSpec:
  used: dict[str, str] = {}  # mesh axis -> name of the dimension that took it
  entries: list[tuple[str, ...] | None] = []
  tensor = f"{'/'.join(keys)} {tuple(shape)}"
  for size, name in zip(shape, names, strict=True):
    if name is not None and name not in RULES:
      problems.append(
        f"{tensor}: no rule for axis {name!r}: add it to RULES in unijax/scale/rules.py"
      )
      name = None
    axes = _axes(name, size, mesh) if name else ()
    for axis in axes:
      if axis in used:
        problems.append(
          f"{tensor}: {used[axis]!r} and {name!r} are both divided over mesh axis "
          f"{axis!r}: give one of them another rule, or set mesh.{axis}=1"
        )
      used[axis] = str(name)
    parts = math.prod(mesh.shape[a] for a in axes)
    if size % parts:
      problems.append(f"{tensor}: {_misfit(name, size, axes, parts, mesh)}")
    entries.append(axes or None)
  while entries and entries[-1] is None:
    entries.pop()
  return PartitionSpec(*(e[0] if e and len(e) == 1 else e for e in entries))


def _axes(name: str, size: int, mesh: Mesh) -> tuple[str, ...]:
  """The mesh axes of a dimension; those of size 1 are left out."""
  axes = tuple(a for a in RULES[name] if mesh.shape[a] > 1)
  if name in AS_FAR_AS_THEY_GO:
    while axes and size % math.prod(mesh.shape[a] for a in axes):
      axes = axes[:-1]
  return axes


def _misfit(name, size: int, axes, parts: int, mesh: Mesh) -> str:
  sizes = " x ".join(f"mesh.{a}={mesh.shape[a]}" for a in axes)
  fits = [n for n in range(1, parts) if parts % n == 0 and size % n == 0]
  return (
    f"{name!r} has {size}, which {sizes} does not divide: rule {name} -> "
    f"{', '.join(axes)}; at most {max(fits)} of these {parts} parts fit "
    f"(the rest can go to mesh.replica)"
  )


def _tuple(entry) -> tuple[str, ...]:
  return entry if isinstance(entry, tuple) else (entry,)
