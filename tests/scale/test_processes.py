"""Two real processes over loopback train as one does, and save one checkpoint."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT, environment
from unijax.checkpoint.integrity import read_manifest
from unijax.config import ConfigError
from unijax.scale import processes
from unijax.train.metrics import read_metrics

TRAIN = """
import dataclasses, sys
from tests.scale import on_devices
from unijax.evals import during
from unijax.scale import processes
from unijax.train import loop
processes.join(sys.argv[2] or None)
c = on_devices.config(train__batch_size=8, train__steps=4, checkpoint__every_steps=2,
                      train__eval_every=2, eval__loss_batches=1)
c = dataclasses.replace(c, mesh=dataclasses.replace(c.mesh, fsdp=4, tensor=2))
hooks = [h for h in during.hooks(c) if not isinstance(h.call, during._Samples)]
loop.train(c, sys.argv[1], hooks)
"""


def start(workdir, devices: int, join: str):
  return subprocess.Popen(
    [sys.executable, "-c", TRAIN, str(workdir), join], cwd=ROOT, env=environment(devices),
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def finish(*runs) -> list[str]:
  try:
    said = [run.communicate(timeout=240)[0] for run in runs]
  finally:
    for run in runs:
      run.kill()
  assert [run.returncode for run in runs] == [0] * len(runs), said
  return said


def numbers(workdir, names=("train/loss", "train/grad_norm", "held_out/loss")):
  found = {}
  for line in read_metrics(workdir):
    found |= {(line["step"], name): line[name] for name in names if name in line}
  return found


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
  finish(start(tmp_path / "one", 8, ""))
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  said = finish(*(start(tmp_path / "two", 4, f"{address},2,{i}") for i in range(2)))
  assert "step 4/4" in said[0] and "step" not in said[1], "only the first speaks"
  one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
  assert one.keys() == two.keys() and len(one) >= 4 * 2 + 2
  for key, value in one.items():
    np.testing.assert_allclose(two[key], value, rtol=1e-4 if "norm" in key[1] else 2e-6)
  saved = [read_manifest(tmp_path / x / "checkpoints" / "4") for x in ("one", "two")]
  assert saved[0].about["plan"] == saved[1].about["plan"]
  # One device goes on from what two processes of four wrote: digests hold on any mesh.
  done = subprocess.run(
    [sys.executable, "-m", "unijax", "ckpt", "verify", str(tmp_path / "two")],
    cwd=ROOT, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ("here", "expected 'auto' or HOST:PORT,COUNT,INDEX"),
    ("127.0.0.1:9,2", "expected 'auto'"),
    ("127.0.0.1:9,2,2", "INDEX runs from 0 to 1 for 2 processes"),
  ],
)
def test_words_that_name_no_processes(how, message):
  with pytest.raises(ConfigError, match=message):
    processes.join(how)
