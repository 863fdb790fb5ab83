"""Run by test_drawing.py in a process of its own, with eight simulated devices.

python -m tests.train.drawing_on_devices STYLE OUT.json
"""

import dataclasses
import json
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(8)

import jax

from tests import small
from tests.scale.on_devices import fingerprint
from tests.train.test_drawing import config
from unijax.data.drawings import DrawingLoader
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions

STEPS = 5
MESH = dict(fsdp=2, context=2, tensor=2)


def run(c, mesh: dict | None) -> dict:
  """Initial state and losses of the first steps on one mesh."""
  laid = None
  if mesh is not None:
    c = dataclasses.replace(c, mesh=dataclasses.replace(c.mesh, preset="dp", **mesh))
    laid = make_mesh(c.mesh)
  functions, loader = StepFunctions(c, small.VOCABULARY.size, laid), DrawingLoader(c)
  state = functions.init()
  found = {"init": fingerprint(state), "loss": []}
  shard = state.params["text"]["embedding"]["table"]
  found["parts"] = shard.size // shard.addressable_shards[0].data.size
  for i in range(STEPS):
    state, metrics = functions.train(state, functions.place(loader.batch(i)))
    found["loss"].append(float(jax.device_get(metrics["loss"].total)))
  return found


if __name__ == "__main__":
  assert jax.device_count() == 8
  _, style, out = sys.argv
  c = config(style, model__kv_heads=2)
  with open(out, "w") as file:
    json.dump([run(c, None), run(c, MESH)], file)
