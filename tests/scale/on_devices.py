"""What the tests of meshes run in processes of their own, with simulated devices.

python tests/scale/on_devices.py DEVICES NAME OUT.json [MESH as JSON ...]
"""

import dataclasses
import hashlib
import json
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(int(sys.argv[1]))

import jax
import numpy as np

from tests import conftest, small  # noqa: F401  (the cache of compiled programs)
from unijax.data.loader import Loader
from unijax.nn.sharing import SHARING
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions

STEPS = 10


def config(**knobs):
  """Scenes with both losses, in sizes that 64 devices can divide."""
  return small.scenes(
    model__width=64, model__heads=4, model__kv_heads=4, model__head_dim=16,
    model__mlp_width=128, data__seq_len=128, data__images_per_row=8,
    optim__learning_rate=3e-3, **knobs,
  )  # fmt: skip


def on(c, mesh: dict | None) -> StepFunctions:
  """The training functions on a mesh of all devices; None is one device alone."""
  if mesh is None:
    return StepFunctions(c, small.VOCABULARY.size)
  c = dataclasses.replace(c, mesh=dataclasses.replace(c.mesh, preset="dp", **mesh))
  return StepFunctions(c, small.VOCABULARY.size, make_mesh(c.mesh))


def fingerprint(tree) -> str:
  """A hash of all bits of a tree."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
  return digest.hexdigest()


def invariance(meshes, rows: int, **knobs) -> list[dict]:
  """Initial state and STEPS losses on each mesh, from the same batches."""
  c = config(train__batch_size=rows, **knobs)
  loader = Loader(c)
  batches = [loader.batch(i) for i in range(STEPS)]
  found = []
  for mesh in meshes:
    functions = on(c, mesh)
    state = functions.init()
    result = {"mesh": mesh, "init": fingerprint(state), "loss": [], "grad_norm": []}
    up = jax.tree.leaves(state.params["transformer"]["blocks"]["mlp"]["up"])
    shard = max(up, key=lambda x: x.ndim)  # a kernel
    result["parts"] = shard.size // shard.addressable_shards[0].data.size
    for batch in batches:
      state, metrics = functions.train(state, functions.place(batch))
      for name in ("loss", "grad_norm"):
        m = jax.device_get(metrics[name])
        result[name].append(float(m.total / m.count))
    result["compiled"] = functions.train._cache_size()
    found.append(result)
  return found


if __name__ == "__main__":
  _, devices, name, out, *meshes = sys.argv
  assert jax.device_count() == int(devices)
  rows, knobs = 8 if devices == "8" else 64, {}
  if name == "accumulated":
    knobs = {"train__micro_batches": 2, "train__loss_chunks": 4, "model__remat": "full"}
    rows *= 2
  if name == "pairs":  # beside every kernel, those of experts too; biases are trained
    knobs = {
      "lora__rank": 4, "lora__targets": ("*",), "model__bias": "all",
      "optim__freeze": ("!*head/*", "!embed*", "!*bias"), "model__sharing": "experts",
      "model__experts": 4, "model__expert_width": 64,
    }  # fmt: skip
  if name in SHARING:
    knobs = {"model__sharing": name, "model__experts": 4, "model__expert_width": 64}
  results = invariance([json.loads(m) for m in meshes], rows, **knobs)
  with open(out, "w") as file:
    json.dump(results, file)
