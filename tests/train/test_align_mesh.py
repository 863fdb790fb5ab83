"""Contrastive losses are over the whole batch: eight devices are one device."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CACHE, ROOT
from tests.train import align_devices


@pytest.fixture(scope="module")
def differences():
  """Of every case, from a process that has eight devices."""
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0",  # compiles in half the time
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "PYTHONPATH": str(ROOT),
  }
  done = subprocess.run(
    [sys.executable, "-m", "tests.train.align_devices"],
    cwd=ROOT, env=environment, text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", align_devices.CASES)
def test_eight_devices_are_one(differences, case):
  loss, params = differences[case]
  assert loss < 1e-5 and params < 1e-5
