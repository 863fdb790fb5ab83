"""Digests of the same leaves on meshes of simulated devices; run as a program.

Prints JSON: {mesh: {name: digest}}, each leaf spread as far as the mesh divides it.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unijax.checkpoint import integrity


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


def spread(x, mesh: Mesh) -> jax.Array:
  """Places a leaf with each axis on a mesh axis that divides it."""
  free, spec = list(mesh.axis_names), []
  for size in x.shape:
    fit = next((a for a in free if size and size % mesh.shape[a] == 0), None)
    spec.append(fit)
    if fit:
      free.remove(fit)
  return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))


def digests(mesh: Mesh) -> dict[str, list[int]]:
  return {
    name: [int(v) for v in integrity.digest(spread(x, mesh))]
    for name, x in leaves().items()
  }


if __name__ == "__main__":
  found = {}
  for name in sys.argv[1:]:
    shape = [int(n) for n in name.split("x")]
    found[name] = digests(jax.make_mesh(shape, ("a", "b")[: len(shape)]))
  print(json.dumps(found))
