"""Laws of degrees and rules: what does not fit says so before anything is compiled."""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from tests import small
from unijax.config import ConfigError
from unijax.nn import logical
from unijax.scale import mesh as mesh_lib
from unijax.scale import rules
from unijax.scale.layout import check_decoder, check_rows
from unijax.scale.mesh import AXES, PRESETS, degrees
from unijax.train.functions import StepFunctions


def section(preset="fsdp", **given):
  return dataclasses.replace(small.config().mesh, preset=preset, **given)


def abstract(**sizes):
  """A mesh without devices."""
  shape = tuple(sizes.get(axis, 1) for axis in AXES)
  return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("devices", "slices"), [(8, 1), (64, 2), (256, 4)])
def test_presets_use_every_device(preset, devices, slices):
  inside, between = degrees(section(preset), devices, slices)
  assert math.prod(inside.values()) == devices // slices
  assert math.prod(between.values()) == between["replica"] == slices
  named = {axis: n for axis, n in PRESETS[preset].items() if n != -1}
  assert {axis: inside[axis] for axis in named} == named
  assert sum(n > 1 for n in inside.values()) == len(PRESETS[preset]), inside


def test_given_degrees_replace_those_of_the_preset():
  inside, _ = degrees(section("fsdp_tp", tensor=2, replica=2), 16)
  assert inside == {"replica": 2, "fsdp": 4, "expert": 1, "context": 1, "tensor": 2}
  inside, between = degrees(section(dcn_replica=1, dcn_fsdp=-1), 16, 2)
  assert inside["fsdp"] == 8 and between["fsdp"] == 2


@pytest.mark.parametrize(
  ("given", "devices", "message"),
  [
    (dict(fsdp=3), 8, r"must multiply to 8 devices, got mesh.fsdp=3; .* -1 to fill"),
    (dict(tensor=3), 8, r"the others multiply to 3, which must be one of \[1, 2, 4, 8"),
    (dict(replica=-1), 8, r"only one may be -1.*give one of mesh.replica, mesh.fsdp"),
    (dict(dcn_fsdp=2), 8, r"degrees between slices must multiply to 1 devices"),
  ],
)
def test_degrees_that_do_not_fit(given, devices, message):
  with pytest.raises(ConfigError, match=message):
    degrees(section(**given), devices)


def test_simulated_slices_keep_the_fast_axes_inside():
  class Device:  # what is needed of one, beside its identity
    def __init__(self, id):
      self.id, self.platform, self.process_index = id, "cpu", 0

  devices = [Device(i) for i in range(16)]
  made = []

  def record(grid, names, axis_types):
    made.append(grid)

  original, mesh_lib.Mesh = mesh_lib.Mesh, record
  try:
    mesh_lib.make_mesh(section("fsdp_tp", tensor=4), devices, slices=2)
  finally:
    mesh_lib.Mesh = original
  ids = np.vectorize(lambda d: d.id)(made[0])
  assert ids.shape == (2, 2, 1, 1, 4)
  assert (ids[0] < 8).all() and (ids[1] >= 8).all(), "replica goes between slices"
  assert (np.diff(ids, axis=-1) == 1).all(), "tensor neighbours are neighbours"


LEAF = jax.ShapeDtypeStruct((8, 12), jnp.float32)


def placed(names, mesh, leaf=LEAF):
  tree = {"params": {"w": leaf}, "mu": {"w": leaf}, "count": jax.ShapeDtypeStruct((), jnp.int32)}  # fmt: skip
  return rules.place(tree, {("w",): names}, mesh)


def test_moments_lie_where_their_parameter_does_and_counters_everywhere():
  tree = placed(("embed", "mlp"), abstract(fsdp=2, context=2, tensor=3))
  want = PartitionSpec(("fsdp", "context"), "tensor")
  assert tree["params"]["w"].spec == tree["mu"]["w"].spec == want
  assert tree["count"].spec == PartitionSpec()
  assert tree["mu"]["w"].shards(abstract(fsdp=2, context=2, tensor=3)) == 12


@pytest.mark.parametrize(
  ("names", "mesh", "message"),
  [
    (("embed", "hidden"), {}, r"params/w \(8, 12\): no rule for axis 'hidden'.*rules"),
    (("heads", "mlp"), {"tensor": 2}, r"'heads' and 'mlp' are both .* axis 'tensor'.*"
     r"mesh.tensor=1"),
    (("embed", "mlp"), {"fsdp": 16}, r"'embed' has 8, which mesh.fsdp=16 does not "
     r"divide.*at most 8 of these 16"),
    (("norm", "mlp"), {"tensor": 8}, r"'mlp' has 12, .*at most 4 of these 8"),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(names, mesh, message):
  with pytest.raises(ConfigError, match=message):
    placed(names, abstract(**mesh))


def test_channels_go_as_far_as_they_divide():
  for size, want in ((8, ("fsdp", "tensor")), (4, "fsdp"), (3, None)):
    leaf = jax.ShapeDtypeStruct((size,), jnp.float32)
    spec = placed(("channels",), abstract(fsdp=4, tensor=2), leaf)["params"]["w"].spec
    assert spec == (PartitionSpec(want) if want else PartitionSpec())


def test_rows_heads_and_positions_that_do_not_divide():
  c = small.config(train__batch_size=8, train__micro_batches=2, model__heads=4)
  check_rows(c, abstract(fsdp=2, replica=2))
  for sizes, message in (
    (dict(fsdp=8), r"batch_size: 8 rows .* of 8 .* x 2 .*: 16 would do"),
    (dict(context=3), r"seq_len: 64 must be a multiple of mesh.context=3"),
    (dict(tensor=2), r"kv_heads: 1 must be a multiple of mesh.tensor=2; at most 1"),
  ):
    with pytest.raises(ConfigError, match=message):
      check_rows(c, abstract(**sizes))
      check_decoder(c, abstract(**sizes))


def test_a_wrong_mesh_is_found_in_a_moment_at_the_largest_size():
  from configs import transfusion
  from unijax.config import from_config_dict

  c = from_config_dict(transfusion.get_config("7B"))
  began = time.process_time()
  with pytest.raises(ConfigError, match="at most"):
    StepFunctions(c, 32_000, abstract(fsdp=512, tensor=3))
  with pytest.raises(ConfigError, match=r"'vocab' has 32001.* mesh.tensor=4"):
    StepFunctions(c, 32_001, abstract(fsdp=8, tensor=4))
  assert time.process_time() - began < 20, "it was compiled, not looked at"


def test_every_parameter_of_every_system_has_rules():
  """Storage is divided over all devices but for a small share of small leaves."""
  for knobs in (
    {}, dict(model__time_injection="adaln", model__patch_position="learned"),
    dict(model__patch_codec="unet", model__time_injection="token"),
    dict(model__tie_embeddings=True, optim__name="muon"),
  ):  # fmt: skip
    c = small.config(model__width=64, model__mlp_width=192, model__kv_heads=2,
                     train__batch_size=8, **knobs)  # fmt: skip
    mesh = abstract(fsdp=4, tensor=2)
    functions = StepFunctions(c, small.VOCABULARY.size, mesh)
    leaves = jax.tree.leaves(functions.layout.placed)
    total = sum(p.size for p in leaves)
    whole = sum(p.size for p in leaves if p.shards(mesh) == 1)
    assert whole < 0.06 * total, [p for p in leaves if p.shards(mesh) == 1]


def test_nothing_is_constrained_without_a_mesh():
  x = jnp.ones((4, 4))
  assert logical.constrain(x, "batch", "no such name") is x
  assert logical.mesh() is None
  with logical.use(small_mesh(), rules.RULES):
    assert logical.mesh() is not None
    with pytest.raises(KeyError):
      logical.spec("no such name")


def small_mesh():
  return mesh_lib.make_mesh(small.config().mesh)
