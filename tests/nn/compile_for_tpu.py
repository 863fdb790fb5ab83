"""Run by test_attention_tpu.py: compiles attention for TPUs that are not here.

python -m tests.nn.compile_for_tpu v5e:2x2    prints one JSON line
"""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from tests import small
from tests.nn.mesh_parity import AXES, RULES
from unijax.nn import logical
from unijax.nn.attention import interval_attention

B, T, H, K = 1, 8192, 8, 128
LOOKAHEAD = 1023
MIB = 2**20


def mesh(topology: str, **degrees: int) -> Mesh:
  described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
  shape = [degrees.get(axis, 1) for axis in AXES]
  devices = np.array(described.devices[: np.prod(shape)]).reshape(shape)
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def struct(shape, dtype, *names) -> jax.ShapeDtypeStruct:
  sharding = NamedSharding(logical.mesh(), logical.spec(*names))
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def memory(topology: str, backend: str):
  """MiB of temporaries and of results of one forward and backward pass, bfloat16."""

  def loss(q, k, v, weight, start, end):
    out = interval_attention(q, k, v, start, end, backend, LOOKAHEAD)
    return (out * weight).sum()

  with logical.use(mesh(topology), RULES):
    x = struct((B, T, H, K), jnp.bfloat16, "batch", "sequence", "act_heads", None)
    i = struct((B, T), jnp.int32, "batch", "sequence")
    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x, x, i, i).compile()
  m = compiled.memory_analysis()
  return {
    "temporary": m.temp_size_in_bytes / MIB,
    "results": m.output_size_in_bytes / MIB,
    "kernels": compiled.as_text().count("tpu_custom_call"),
  }


def model_kernels(topology: str) -> int:
  """Kernels in the gradient of a whole model over context 2 x tensor 2, by `auto`."""
  c = small.config(
    model__head_dim=64, model__kv_heads=2, model__dtype="bfloat16", data__seq_len=1024,
  )  # fmt: skip
  module = small.functions(c).model
  module = module.clone(config=dataclasses.replace(c.model, remat="full"))
  params = small.params(c, seed=0)
  inputs = small.inputs(c, small.batch(c, [small.plain("ab", 0, 1, "c")]))

  def loss(params, inputs):
    logits, prediction = module.apply({"params": params}, inputs)
    return logits.mean() + prediction.mean()

  with logical.use(mesh(topology, context=2, tensor=2), RULES):
    params = jax.tree.map(lambda x: struct(x.shape, x.dtype), params)
    inputs = jax.tree.map(
      lambda x: struct(x.shape, x.dtype, *("batch", "sequence", None)[: x.ndim]), inputs
    )
    compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
  return compiled.as_text().count("tpu_custom_call")


if __name__ == "__main__":
  name = sys.argv[1]
  found = {backend: memory(name, backend) for backend in ("dense", "splash")}
  if name == "v5e:2x2":
    found["model"] = model_kernels(name)
  print(json.dumps(found))
