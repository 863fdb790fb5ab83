"""What the law of meshes runs of whole configs, on eight simulated devices.

python -m tests.laws.systems_on_devices OUT.json NAME ...
"""

import json
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(8)

from tests import conftest  # noqa: F401  (the cache of compiled programs)
from tests.laws import systems
from unijax.scale.mesh import training_mesh
from unijax.train import tasks
from unijax.train.functions import StepFunctions

STEPS = 3  # of every stage; the first one only warms up
ROWS = 8


def losses(name: str) -> dict[str, list[float]]:
  """Losses of the same batch on one device, and divided over eight."""
  c = systems.load(
    name, train=dict(batch_size=ROWS, steps=100), optim=dict(warmup_steps=1)
  )
  loader = tasks.make_loader(c)
  batch, found = loader.batch(0), {}
  for label, mesh in {"one": None, "eight": training_mesh(c)}.items():
    functions = StepFunctions(c, loader.vocab, mesh)
    state = functions.init()
    found[label] = []
    # Stages that differ in learning rates or data alone share one step.
    for train in dict.fromkeys(functions.train_at(start) for start in c.starts):
      for _ in range(STEPS):
        state, metrics = train(state, functions.place(batch))
        loss = metrics["loss"]
        found[label].append(float(loss.total / loss.count))
  return found


if __name__ == "__main__":
  _, out, *names = sys.argv
  with open(out, "w") as file:
    json.dump({name: losses(name) for name in names}, file)
