"""What the law of meshes runs in a process of its own, on eight simulated devices.

python -m tests.laws.on_devices OUT.json NAME ...
"""

import json
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(8)

import dataclasses

import jax
import numpy as np

from tests import conftest, small  # noqa: F401  (the cache of compiled programs)
from tests.laws import variants
from tests.scale.on_devices import fingerprint
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions

STEPS = 3
MESHES = {"2x2x2": dict(fsdp=2, context=2, tensor=2)}


def batches(c):
  """Eight rows a step, other documents in each."""
  for i in range(STEPS):
    parts = [variants.in_rows(c, *places) for places in ([[0, i], [1]], [[4], [3, 2]])]
    rows = jax.tree.map(lambda *x: np.concatenate(x)[[0, 1, 5, 6, 2, 6, 5, 0]], *parts)
    yield dataclasses.replace(rows, image_key_BT=rows.image_key_BT + np.uint32(i))


def losses(name: str) -> dict:
  """Initial state and losses, on one device and on each mesh."""
  knobs = dict(train__batch_size=8, model__kv_heads=2, optim__warmup_steps=1)
  c = variants.config(
    name, optim__learning_rate=3e-3, optim__schedule="constant", **knobs
  )
  found = {}
  for label, mesh in {"one": None, **MESHES}.items():
    vocab = small.builder(c).vocabulary.size
    on = dataclasses.replace(
      c, mesh=dataclasses.replace(c.mesh, preset="dp", **mesh or {})
    )
    functions = StepFunctions(on, vocab, mesh and make_mesh(on.mesh))
    state = functions.init()
    result = {"init": fingerprint(state), "loss": []}
    for batch in batches(c):
      state, metrics = functions.train(state, functions.place(batch))
      result["loss"].append(float(metrics["loss"].total))
    found[label] = result
  return found


if __name__ == "__main__":
  _, out, *names = sys.argv
  with open(out, "w") as file:
    json.dump({name: losses(name) for name in names}, file)
