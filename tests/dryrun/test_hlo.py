"""The reader of compiled modules, on text from the TPU compiler and live on the CPU."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import ROOT
from unijax.dryrun import collectives, cycles, hlo
from unijax.dryrun.collectives import MeshLayout, replica_groups

HERE = pathlib.Path(__file__).parent
TPU = MeshLayout({"fsdp": 8, "tensor": 2}, np.zeros(16, int))


@pytest.fixture(scope="module")
def tpu():
  """Six residual two-layer blocks with remat, forward and backward, on v5e:4x4."""
  return hlo.parse((HERE / "scan_v5e_4x4.hlo").read_text())


def test_loops_of_a_tpu_module_are_multiplied_out(tpu):
  executed, unknown = hlo.schedule(tpu)
  loops = [e for e in executed if e.instruction.opcode == "while"]
  assert len(loops) == 2 and unknown == []
  for e in loops:
    assert hlo.trip_count(tpu, e.where, e.instruction) == 6


def test_collectives_of_a_tpu_module(tpu):
  """Known by hand: two weights a block, gathered forward and again backward, their
  gradients scattered; one activation a block summed over tensor each way."""
  executed, _ = hlo.schedule(tpu)
  rows = collectives.table(collectives.find(tpu, executed, TPU))
  found = {(r["kind"], r["axis"]): (r["count"], r["payload_bytes"]) for r in rows}
  weight = 512 * 1024 * 2  # bytes of one weight's half in bfloat16
  assert found == {
    ("all-gather", "fsdp"): (24, 24 * weight),
    ("reduce-scatter (fused)", "fsdp"): (12, 12 * weight),
    ("all-reduce", "tensor"): (12, 12 * 8 * 512 * 2),
    ("all-reduce", "fsdp"): (1, 4),
  }
  sent = {(r["kind"], r["axis"]): r["sent_bytes"] for r in rows}
  assert sent["all-gather", "fsdp"] == 24 * weight * 7 // 8
  assert sent["all-reduce", "fsdp"] == 7  # 2 x 7/8 of 4 bytes


def test_cycles_are_summed_over_the_schedule(tpu):
  found = cycles.estimate(hlo.schedule(tpu)[0])
  once = sum(
    i.cycles or 0
    for name in (tpu.entry, *(c for c in tpu.computations if "sunk" in c))
    for i in tpu.computations[name].instructions.values()
  )
  entry = sum(i.cycles or 0 for i in tpu.computations[tpu.entry].instructions.values())
  assert found["total"] == entry + 6 * (once - entry) > 0
  assert sum(found["by_opcode"].values()) == found["total"]
  assert found["without_estimate"]["all-gather"] == 18
  assert found["without_estimate"]["fusion all-reduce-scatter"] == 12


def test_metadata_of_kernels_may_span_lines():
  """As the TPU compiler writes a Pallas kernel: JSON with line breaks and braces."""
  module = hlo.parse("""HloModule m

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %k = f32[4]{0} custom-call(%x), custom_call_target="tpu_custom_call", metadata={op_name="a"}, frontend_attributes={kernel_metadata={
"name": "k",
"more": {
}
}}, backend_config={"window_config":{"estimated_cycles":"7"}}
  ROOT %y = f32[4]{0} add(%k, %k)
}
""")
  main = module.computations["main"]
  assert list(main.instructions) == ["x", "k", "y"] and main.root.name == "y"
  assert main.instructions["k"].cycles == 7


@pytest.mark.parametrize(
  ("text", "groups"),
  [
    ("{{0,2},{1,3}}", [[0, 2], [1, 3]]),
    ("{}", [[0, 1, 2, 3]]),
    ("[2,2]<=[4]", [[0, 1], [2, 3]]),
    ("[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=1,'c'=2] {'a'}", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'c'=2], device_ids=([2,2]T(1,0)) {'a'}", [[0, 1], [2, 3]]),
    ("mesh['a'=2,'c'=2] {'c','a'}", [[0, 2, 1, 3]]),
  ],
)
def test_replica_groups(text, groups):
  attributes = f"channel_id=1, replica_groups={text}, use_global_device_ids=true"
  assert replica_groups(attributes, 4).tolist() == groups


def test_an_unknown_form_of_groups_is_said():
  with pytest.raises(hlo.HloError, match="unknown form"):
    replica_groups("replica_groups=whatever, x=1", 4)


def test_text_that_is_no_module_is_said():
  with pytest.raises(hlo.HloError, match="as_text"):
    hlo.parse("hello")


def test_groups_across_slices_use_the_slow_network():
  """Two slices of four chips: an all-reduce over both sends, per chip, a quarter of
  what the slices exchange."""
  layout = MeshLayout({"replica": 2, "fsdp": 4}, np.repeat([0, 1], 4))
  text = """HloModule m
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  %in = f32[1024]{0} all-reduce(%x), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
  %pair = f32[1024]{0} all-reduce(%in), channel_id=2, replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
  %all = f32[1024]{0} all-reduce(%pair), channel_id=3, replica_groups={}, to_apply=%add
  ROOT %shift = f32[1024]{0} collective-permute(%all), channel_id=4, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
}
"""
  module = hlo.parse(text)
  found = collectives.find(module, hlo.schedule(module)[0], layout)
  got = [(c.kind, c.axis, c.network, c.members, c.sent) for c in found]
  assert got == [
    ("all-reduce", "fsdp", "ICI", 4, 2 * 3 / 4 * 4096),
    ("all-reduce", "replica", "DCN", 2, 4096),
    ("all-reduce", "replica+fsdp", "DCN", 8, 1024),
    ("collective-permute", "fsdp", "ICI", 2, 4096),
  ]


def test_a_loop_whose_length_depends_on_data_is_said():
  f = jax.jit(lambda n: jax.lax.while_loop(lambda i: i < n, lambda i: i * 2 + 1, 0))
  module = hlo.parse(f.lower(jax.ShapeDtypeStruct((), jnp.int32)).compile().as_text())
  assert len(hlo.schedule(module)[1]) == 1


def test_transfers_that_the_host_carries_between_slices():
  """As the TPU compiler writes an all-reduce of two slices of two chips."""
  layout = MeshLayout({"replica": 2, "fsdp": 2}, np.array([0, 0, 1, 1]))
  module = hlo.parse("""HloModule m

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %t = token[] after-all()
  %s = (f32[8]{0}, u32[], token[]) send(%x, %t), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %d = token[] send-done(%s), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  ROOT %y = f32[8]{0} add(%x, %x)
}
""")
  (c,) = collectives.find(module, hlo.schedule(module)[0], layout)
  assert (c.kind, c.axis, c.network, c.sent) == ("all-reduce", "replica", "DCN", 32)


def test_axes_and_trips_on_eight_devices():
  """Runs tests/dryrun/eight_devices.py where JAX sees eight CPU devices."""
  flags = "--xla_force_host_platform_device_count=8"
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "tests/dryrun/eight_devices.py"],
    cwd=ROOT, capture_output=True, text=True,
    env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-3000:]
  assert "9 passed" in done.stdout, done.stdout
