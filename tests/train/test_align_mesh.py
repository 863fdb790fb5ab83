"""Contrastive losses are over the whole batch: eight devices are one device."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment
from tests.train import align_devices


def differences(case: str) -> tuple[float, float]:
  """Of losses and of parameters, from a process that has eight devices."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.train.align_devices", case],
    cwd=ROOT, env=environment(8), text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("case", align_devices.CASES)
def test_eight_devices_are_one(case):
  loss, params = differences(case)
  assert loss < 1e-5 and params < 1e-5
