"""Collectives whose axis and count are known, compiled for eight CPU devices.

Run by test_hlo.py in a process of its own, which sets the number of devices.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from unijax.dryrun import collectives, hlo
from unijax.dryrun.collectives import MeshLayout


@pytest.fixture(scope="module")
def mesh():
  grid = np.array(jax.devices()[:8]).reshape(2, 2, 2)
  return Mesh(grid, ("replica", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def compiled(function, mesh, spec, shape=(8, 8)):
  x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
  module = hlo.parse(jax.jit(function).lower(x).compile().as_text())
  executed, unknown = hlo.schedule(module)
  assert unknown == []
  return collectives.find(module, executed, MeshLayout.of(mesh))


AXES = ("replica", "fsdp", "tensor")


@pytest.mark.parametrize("axis", [*AXES, ("replica", "tensor"), AXES])
def test_each_axis_is_told_apart(mesh, axis):
  f = jax.shard_map(
    lambda x: jax.lax.psum(x, axis), mesh=mesh, in_specs=P(AXES), out_specs=P(),
    check_vma=False,
  )  # fmt: skip
  (found,) = compiled(f, mesh, P(AXES))
  names = axis if isinstance(axis, tuple) else (axis,)
  assert (found.kind, found.axis) == ("all-reduce", "+".join(names))
  assert found.members == 2 ** len(names)
  assert found.payload == 8 * 4


@pytest.mark.parametrize(
  ("collective", "kind"),
  [
    (lambda x: jax.lax.all_gather(x, "fsdp"), "all-gather"),
    (
      lambda x: jax.lax.psum_scatter(x, "fsdp", scatter_dimension=1, tiled=True),
      "reduce-scatter",
    ),
    (lambda x: jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True), "all-to-all"),
    (lambda x: jax.lax.ppermute(x, "fsdp", [(0, 1), (1, 0)]), "collective-permute"),
  ],
)
def test_each_kind_inside_a_scan_counts_its_trips(mesh, collective, kind):
  def local(x):
    def body(total, i):
      return total + collective(x * i).sum(), None

    return jax.lax.scan(body, 0.0, jnp.arange(5.0))[0][None]

  f = jax.shard_map(
    local, mesh=mesh, in_specs=P(AXES), out_specs=P(AXES), check_vma=False
  )
  found = compiled(f, mesh, P(AXES))
  kinds = {(c.kind, c.axis) for c in found}
  assert kinds == {(kind, "fsdp")}
  assert sum(c.times for c in found) == 5
