"""Run by test_align_mesh.py on 8 simulated devices with the name of a case: prints a JSON
line of differences.
"""

import json
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(8)

import jax
import numpy as np

from tests.train import test_alignment
from unijax.data.pair_loader import PairLoader
from unijax.scale.mesh import training_mesh
from unijax.train.functions import StepFunctions

CASES = {
  "softmax": {},
  "softmax, in parts": {"train__loss_chunks": 2},
  "sigmoid": {"align__objective": "sigmoid"},
  "queries": {"align__objective": "queries", "text__depth": 2},
  "softmax, tensor": {"mesh__preset": "fsdp_tp", "mesh__tensor": 2},
}  # fmt: skip
STEPS = 2


def run(c, mesh):
  """Metrics of a few steps, and the parameters at the end."""
  loader = PairLoader(c)
  functions = StepFunctions(c, loader.vocab, mesh)
  state, lines = functions.init(), []
  for step in range(STEPS):
    state, metrics = functions.train(state, functions.place(loader.batch(step)))
    lines.append({k: float(m.total / m.count) for k, m in metrics.items() if m.count})
  return lines, jax.device_get(state.params), functions


def main(case: str):
  assert len(jax.devices()) == 8
  # A large epsilon: Adam would turn rounding of tiny gradients into whole steps.
  c = test_alignment.config(
    **CASES[case], train__batch_size=16, train__steps=STEPS, optim__eps=1e-3
  )
  alone, params, _ = run(c, None)
  divided, other, functions = run(c, training_mesh(c))
  with functions.layout.use():
    kernel = functions.layout.state.params["text_projection"]["kernel"]
  assert functions.layout.mesh.size == 8 and kernel.mesh.size == 8
  losses = [abs(a["loss"] - b["loss"]) for a, b in zip(alone, divided, strict=True)]
  difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, other)
  print(json.dumps([float(max(losses)), float(max(jax.tree.leaves(difference)))]))


if __name__ == "__main__":
  main(sys.argv[1])
