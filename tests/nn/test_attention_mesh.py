"""Attention over a mesh: fsdp 2 x context 2 x tensor 2 on eight simulated devices."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment

pytestmark = pytest.mark.slow  # dense attention is in tests/scale/test_invariance.py


@pytest.fixture(scope="module")
def errors():
  """Of every case, from a process that has eight devices."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.nn.mesh_parity"],
    cwd=ROOT, env=environment(8), text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["splash", "splash, odd key heads", "tokamax"])
def test_the_mesh_changes_no_number(errors, case):
  if case not in errors:
    pytest.skip("tokamax is not installed")
  forward, *gradients = errors[case]
  assert forward <= 1e-5 and max(gradients) <= 1e-4


@pytest.mark.parametrize(
  "case", ["model, dense", "model, splash", "model, one row for two devices"]
)
def test_nor_does_it_for_the_whole_model(errors, case):
  assert max(errors[case]) <= 1e-4  # of the largest entry
