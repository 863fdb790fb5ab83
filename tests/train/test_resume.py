"""Law 8: a run that was killed, stopped or ran out of disk goes on as if nothing was.

Real processes die here: they are killed while they train and while they save.
"""

import json
import os
import pathlib
import random
import shutil
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
  return small.scenes(train__steps=STEPS, checkpoint__every_steps=3)


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
  deadline = time.monotonic() + 600
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


def saving(workdir: pathlib.Path) -> bool:
  """Whether a checkpoint is being written, or was when its process was killed."""
  return any(p.name.endswith(".tmp") for p in (workdir / "checkpoints").glob("*"))


def kill(workdir, happened, delay: float) -> bool:
  """Starts the run, and kills it some seconds after something has happened.

  Returns:
    False if it was done before.
  """
  process = start("-c", TRAIN, workdir)
  wait_for(process, happened)
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  _, err = process.communicate()
  assert process.returncode in (0, -signal.SIGKILL), err
  return process.returncode != 0


def test_killed_at_any_moment_and_resumed_is_the_same_run(straight, tmp_path):
  rng, unfinished = random.Random(0), False
  lines = lambda: len(read_metrics(tmp_path))
  writes = lambda: saving(tmp_path)
  for happened in (lambda: lines() > 4, writes, lambda: lines() > 8):
    assert kill(tmp_path, happened, 0 if happened is writes else rng.uniform(0, 0.1))
    unfinished |= saving(tmp_path)
  assert unfinished, "no process was killed while it wrote a checkpoint"
  loop.train(config(), tmp_path, [SCORE])
  assert_same_run(straight, tmp_path)


@pytest.mark.slow
def test_killed_twelve_times_and_resumed_is_the_same_run(straight, tmp_path):
  """Every start but the last is killed: while it starts, trains, saves or resumes."""
  rng, kills, unfinished = random.Random(1), 0, 0
  metrics_file = tmp_path / "metrics.jsonl"
  stamp = lambda: metrics_file.stat().st_mtime_ns if metrics_file.exists() else 0
  while kills < 12:
    before, word = stamp(), rng.choice(["start", "train", "save", "save"])
    if saving(tmp_path):  # cut off; only a start sweeps it away
      word = rng.choice(["start", "train"])
    happened, most = {
      "start": (lambda: True, 5.0),
      "train": (lambda before=before: stamp() != before, 0.6),
      "save": (lambda: saving(tmp_path), 0.03),
    }[word]
    kills += kill(tmp_path, happened, rng.uniform(0, most))
    unfinished += word == "save" and saving(tmp_path)
    for step in (STEPS, STEPS - 3):  # so that there is enough left to die in
      shutil.rmtree(tmp_path / "checkpoints" / str(step), ignore_errors=True)
  assert unfinished > 1, "too few were killed while they wrote a checkpoint"
  process = start("-c", TRAIN, tmp_path)
  out, err = process.communicate(timeout=600)
  assert process.returncode == 0, (out, err)
  assert_same_run(straight, tmp_path)


def config_file(folder: pathlib.Path, **sections) -> pathlib.Path:
  """Writes the config as a file that the command line reads."""
  values = to_dict(config())
  for name, knobs in sections.items():
    values[name].update(knobs)
  path = folder / "config.py"
  path.write_text(
    "from ml_collections import ConfigDict\n"
    f"def get_config():\n  return ConfigDict({values!r})\n"
  )
  return path


def test_ctrl_c_in_a_terminal(tmp_path):
  """Saves, says how to go on, exits with 130."""
  workdir = tmp_path / "run"
  file = config_file(tmp_path, train={"steps": 100_000})
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
  file = config_file(tmp_path, checkpoint={"every_steps": 2})

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
