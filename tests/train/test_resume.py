"""Law 8: a run that was killed, stopped or ran out of disk goes on as if nothing was.

Real processes die here: they are killed while they train and while they save.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import pytest

from tests import small
from tests.conftest import CACHE, ROOT
from unijax.checkpoint.store import Store
from unijax.config import to_dict
from unijax.train import loop
from unijax.train.metrics import read_metrics

STEPS = 12
LIMIT = 20_000  # bytes of a file, when the disk is full; a checkpoint needs more
CLOCK = {"train/steps_per_second", "train/tokens_per_second", "train/data_wait_share"}
TRAIN = """
import sys, time
from tests import small
from tests.train import test_resume
from unijax.train.loop import Hook, train
pause = Hook(1, lambda run, state, step: time.sleep(0.05))  # leaves time to die in
train(test_resume.config(), sys.argv[1], [pause, test_resume.SCORE])
"""

ON_A_FULL_DISK = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
runpy.run_module("unijax", run_name="__main__")
"""


def config():
  return small.scenes(train__steps=STEPS, train__checkpoint_every=3)


def score(run, state, step):
  """A hook that writes, as evaluations do."""
  run.writer.scalars(step, {"norm": float(abs(state.key_data).sum() + step)}, "score")


SCORE = loop.Hook(3, score)


def start(*words) -> subprocess.Popen:
  """A process of its own, with the compilation cache of the tests."""
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE)}
  environment["PYTHONPATH"] = str(ROOT)
  return subprocess.Popen(
    [sys.executable, *map(str, words)], cwd=ROOT, env=environment, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )  # fmt: skip


def wait_for(process, happened) -> None:
  """Polls until `happened()`; fails with the output of a process that ended before."""
  deadline = time.monotonic() + 120
  while not happened():
    if process.poll() is not None or time.monotonic() > deadline:
      process.kill()
      out, err = process.communicate()
      pytest.fail(f"ended with {process.returncode} too early:\n{out}\n{err}")
    time.sleep(0.002)


def metrics(workdir) -> list:
  """All lines without what the clock decides, ordered; a pair of step and values."""
  lines = [
    json.dumps({k: v for k, v in line.items() if k not in CLOCK}, sort_keys=True)
    for line in read_metrics(workdir)
  ]
  return sorted(lines)


def final_state(workdir):
  store = Store(workdir, read_only=True)
  try:
    assert store.steps()[-1] == STEPS
    return store.restore(small.functions(config()).abstract_state())
  finally:
    store.close()


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
  """Parameters, averages, optimizer and metrics are equal, bit for bit."""
  a, b = final_state(one), final_state(other)
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for (path, x), y in zip(
    jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    assert (x == y).all(), jax.tree_util.keystr(path)
  assert metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> pathlib.Path:
  """A run that nothing happened to."""
  workdir = tmp_path_factory.mktemp("straight")
  loop.train(config(), workdir, [SCORE])
  assert len(metrics(workdir)) == STEPS + 4
  return workdir


def test_killed_at_any_moment_and_resumed_is_the_same_run(straight, tmp_path):
  rng = random.Random(0)

  def lines():
    return len(read_metrics(tmp_path))

  def saving():  # a checkpoint is being written
    return any("tmp" in p.name for p in (tmp_path / "checkpoints").glob("*"))

  unfinished = False
  moments = [lambda: lines() > 4, saving, lambda: lines() > 8]
  for happened in moments:
    process = start("-c", TRAIN, tmp_path)
    wait_for(process, happened)
    time.sleep(rng.uniform(0, 0.1) if happened is not saving else 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    unfinished |= saving()
  assert unfinished, "no process was killed while it wrote a checkpoint"
  loop.train(config(), tmp_path, [SCORE])
  assert_same_run(straight, tmp_path)


def config_file(folder: pathlib.Path, **train) -> pathlib.Path:
  """Writes the config as a file that the command line reads."""
  values = to_dict(config())
  values["train"].update(train)
  path = folder / "config.py"
  path.write_text(
    "from ml_collections import ConfigDict\n"
    f"def get_config():\n  return ConfigDict({values!r})\n"
  )
  return path


def test_ctrl_c_in_a_terminal(tmp_path):
  """Saves, says how to go on, exits with 130."""
  workdir = tmp_path / "run"
  file = config_file(tmp_path, steps=100_000)
  process = start(
    "-m", "unijax", "train", f"--config={file}", f"--workdir={workdir}"
  )  # fmt: skip
  wait_for(process, lambda: len(read_metrics(workdir)) > 2)
  process.send_signal(signal.SIGINT)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 130, err
  store = Store(workdir, read_only=True)
  step = store.steps()[-1]
  store.close()
  said = (
    f"stopped at step {step} of 100000, saved in {workdir}; the same command resumes"
  )
  assert err.rstrip().endswith(said) and "Traceback" not in err
  assert "RESULT" not in out
  assert len(read_metrics(workdir)) == step  # a line for every step done


def test_a_full_disk_says_so_and_leaves_the_last_checkpoint(straight, tmp_path):
  workdir = tmp_path / "run"
  file = config_file(tmp_path, checkpoint_every=2)

  def at_step_4(run, state, step):
    os.kill(os.getpid(), signal.SIGINT)

  with pytest.raises(loop.Interrupted):
    loop.train(config(), workdir, [SCORE, loop.Hook(4, at_step_4)])
  process = start(
    "-c", ON_A_FULL_DISK, "train", f"--config={file}", f"--workdir={workdir}"
  )  # fmt: skip
  out, err = process.communicate(timeout=120)
  assert process.returncode == 2, (process.returncode, out, err)
  assert "could not save" in err and f"under {workdir}" in err
  assert "Free some disk space" in err and "RESULT" not in out
  loop.train(config(), workdir, [SCORE])  # and now there is room again
  assert_same_run(straight, workdir)
