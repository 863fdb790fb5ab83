"""Digests and checkpoints on meshes of simulated devices; run as a program.

  python -m tests.checkpoint.digests RUN 8 4x2

On each mesh, every leaf spread as far as it divides: digests the leaves of every kind,
restores the latest checkpoint of RUN, and saves it again as RUN-MESH.
Prints JSON: {mesh: {"digests": {name: digest}, "equal": restored to the bit}}.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.checkpoint import states
from unijax.checkpoint import fits, integrity
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.store import Store


def leaves() -> dict:
  """One leaf of every kind that a state may have."""
  rng = np.random.default_rng(0)
  numbers = rng.standard_normal((8, 6, 4)).astype(np.float32)
  return {
    "float32": jnp.asarray(numbers),
    "bfloat16": jnp.asarray(numbers, jnp.bfloat16),
    "float16": jnp.asarray(numbers, jnp.float16),
    "float8": jnp.asarray(numbers, jnp.float8_e4m3fn),
    "complex64": jnp.asarray(numbers + 1j * numbers[::-1]),
    "int8": jnp.arange(-64, 64, dtype=jnp.int8),
    "int4": jnp.arange(-8, 8, dtype=jnp.int4),
    "uint32": jnp.asarray(rng.integers(0, 2**32, (16, 3), np.uint32)),
    "bool": jnp.asarray(numbers[..., 0] > 0),
    "scalar": jnp.int32(7),
    "empty": jnp.zeros((0, 3)),
    "keys": jax.random.split(jax.random.key(3), 8),
    "key data": jnp.asarray([1, 2], jnp.uint32),
  }


def sharding(x, mesh: Mesh) -> NamedSharding:
  """Each axis of a leaf on a mesh axis that divides it."""
  free, spec = list(mesh.axis_names), []
  for size in x.shape:
    fit = next((a for a in free if size and size % mesh.shape[a] == 0), None)
    spec.append(fit)
    if fit:
      free.remove(fit)
  return NamedSharding(mesh, PartitionSpec(*spec))


def digests(mesh: Mesh) -> dict[str, list[int]]:
  return {
    name: [int(v) for v in integrity.digest(jax.device_put(x, sharding(x, mesh)))]
    for name, x in leaves().items()
  }


def moved(run: str, mesh: Mesh, to: str) -> bool:
  """Restores a run on a mesh, saves it elsewhere; whether it is the same, spread."""
  everywhere = lambda shapes: jax.tree.map(lambda x: sharding(x, mesh), shapes)
  abstract = fits.abstract_state(lambda: states.state(0), everywhere)
  reader = Reader(run)
  state = reader.restore(abstract)
  reader.close()
  store = Store(to)
  store.save(state, int(state.step))
  store.wait()
  store.close()
  leaves = zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True)
  return states.equal(state, states.state(int(state.step))) and all(
    x.sharding.is_equivalent_to(a.sharding, x.ndim) for x, a in leaves
  )


if __name__ == "__main__":
  found = {}
  run = sys.argv[1]
  for name in sys.argv[2:]:
    shape = [int(n) for n in name.split("x")]
    mesh = jax.make_mesh(shape, ("a", "b")[: len(shape)])
    found[name] = {"digests": digests(mesh), "equal": moved(run, mesh, f"{run}-{name}")}
  print(json.dumps(found))
