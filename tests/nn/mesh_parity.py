"""Run by test_attention_mesh.py on 8 simulated devices: prints a JSON line of cases."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from tests import small
from tests.nn import layouts
from unijax.nn import logical
from unijax.nn.attention import interval_attention

AXES = ("replica", "fsdp", "expert", "context", "tensor")
RULES = {
  "batch": AXES[:3], "sequence": ("context",), "keys": (), "act_embed": (),
  "act_heads": ("tensor",), "act_kv_heads": ("tensor",), "act_mlp": ("tensor",),
  "act_vocab": ("tensor",),
}  # fmt: skip
B, T, H, K = 2, 2 * layouts.T, 6, 64


def mesh():
  devices = np.array(jax.devices()).reshape(1, 2, 1, 2, 2)
  return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 5)


def rows():
  """Two rows of twice the length: images cross the border between devices."""
  start, end = layouts.intervals(8)
  pair = lambda x: np.concatenate([x[4:6], x[6:8] + layouts.T], axis=1)
  start, end = pair(start), pair(end)
  start[0], end[0] = 0, np.arange(T)
  end[0, T // 2 - 90 : T // 2 + 90] = T // 2 + 89
  return start, end


def worst(got, want):
  pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
  return [float(abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs]


def attention(backend: str, kv_heads: int):
  """Returns the largest errors of output, dq, dk, dv against dense on one device."""
  keys = jax.random.split(jax.random.key(0), 4)
  heads = (H, kv_heads, kv_heads, H)
  q, k, v, weight = (
    jax.random.normal(key, (B, T, n, K)) for key, n in zip(keys, heads, strict=True)
  )
  start, end = rows()

  def run(name):
    def loss(q, k, v):
      out = interval_attention(q, k, v, start, end, name, layouts.LONGEST - 1)
      return (out * weight).sum(), out

    return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v)

  d_want, want = run("dense")
  with logical.use(mesh(), RULES):
    d_got, got = run(backend)
  return worst((got, d_got), (want, d_want))


def model(backend: str):
  """Returns the largest relative errors of the loss and each gradient of a model."""
  c = small.config(
    model__attention=backend, model__head_dim=64, data__seq_len=256,
    model__patch_position="learned",
  )  # fmt: skip
  b = small.batch(c, [small.plain("ab", 0, 1, "c")], [small.plain(2, "d" * 150, id=1)])
  inputs, params = small.inputs(c, b), small.params(c, seed=1)

  def run(name):
    module = small.functions(c).model
    module = module.clone(config=dataclasses.replace(c.model, attention=name))

    def loss(params):
      logits, prediction = module.apply({"params": params}, inputs)
      return (jnp.sin(logits).mean() + jnp.sin(prediction).mean()) * 100

    return jax.jit(jax.value_and_grad(loss)).lower(params).compile()

  alone = run("dense")
  with logical.use(mesh(), RULES):
    divided = run(backend)
  assert "all-gather(" in divided.as_text(), "the program is not divided"
  assert "all-gather(" not in alone.as_text()
  want, got = alone(params), divided(params)
  scale = jax.tree.map(lambda x: np.abs(x).max() + 1e-6, want)
  got, want = (jax.tree.map(lambda x, s: x / s, x, scale) for x in (got, want))
  return worst(got, want)


if __name__ == "__main__":
  assert len(jax.devices()) == 8
  errors = {
    "splash": attention("splash", 2),
    "splash, odd key heads": attention("splash", 3),  # for two parts of `tensor`
    "model, dense": model("dense"),
    "model, splash": model("splash"),
  }
  if importlib.util.find_spec("tokamax"):
    errors["tokamax"] = attention("tokamax", 2)
  print(json.dumps(errors))
