"""launch/local.py: points of a config, on the command line and for real."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import CACHE, ROOT
from tests.sweep.test_launching import TINY, launcher
from unijax.config import ConfigError
from unijax.train.metrics import read_metrics

SMALL = """
from configs import transfusion
def get_config(preset=""):
  c = transfusion.get_config("tiny")
  c.model.update(depth=1, width=32, heads=2, kv_heads=2, head_dim=16, mlp_width=48)
  c.model.update(scan_unroll=1)
  c.train.update(steps=400, batch_size=2, log_every=1, eval_every=1000, sample_every=1000)
  c.eval.update(prompts=4, batch_size=4, loss_batches=1, kid_images=4)
  return c
"""


def test_points_become_jobs(tmp_path):
  local = launcher("local")
  tuple_point = "optim.freeze=('patch_codec/*', 'embedding/*'),seed=1"
  made = local.jobs_of(
    TINY, tmp_path, ["", "optim.learning_rate=0.005,seed=2", tuple_point]
  )
  assert [job.name for job in made] == [
    "base", "optim.learning_rate=0.005_seed=2", "optim.freeze=_patch_codec_embedding_seed=1",
  ]  # fmt: skip
  assert made[2].command[-2:] == (
    "--config.optim.freeze=('patch_codec/*', 'embedding/*')", "--config.seed=1",
  )  # fmt: skip
  for points, message in (
    (["seed"], "'seed' is not knob=value"),
    (["seed=1", "seed=1"], "another one has the run folder seed=1"),
    (["sed=1"], "point sed=1: unknown knob 'sed'"),
  ):
    with pytest.raises(ConfigError, match=message):
      local.jobs_of(TINY, tmp_path, points)


@pytest.mark.slow
def test_points_train_are_stopped_and_go_on(tmp_path):
  """Two points train at once and one crashes; SIGTERM, and again to the end."""
  (tmp_path / "small.py").write_text(SMALL)
  root = tmp_path / "runs"
  words = [
    sys.executable, "launch/local.py", f"--config={tmp_path}/small.py", f"--root={root}",
    "--point=seed=1", "--point=seed=2", "--point=data.codec=nosuch-run", "--slots=2",
  ]  # fmt: skip
  environment = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
  }

  def start():
    return subprocess.Popen(words, cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

  bad = start()
  assert bad.communicate(timeout=600) and bad.returncode == 2, (
    "seen before anything runs"
  )
  words.remove("--point=data.codec=nosuch-run")
  first = start()
  folders = [root / "seed=1", root / "seed=2"]
  deadline = time.monotonic() + 1200
  while not all(len(read_metrics(f)) > 3 for f in folders):
    assert first.poll() is None and time.monotonic() < deadline, first.communicate()
    time.sleep(0.1)
  first.send_signal(signal.SIGTERM)
  out, err = first.communicate(timeout=600)
  assert first.returncode == 75 and out.count("stopped  --config") == 2, err
  reached = [read_metrics(f)[-1]["step"] for f in folders]
  assert all(3 < step < 400 for step in reached)
  second = start()
  out, err = second.communicate(timeout=1200)
  assert second.returncode == 0 and out.count("RESULT {") == 2, err
  for folder, step in zip(folders, reached, strict=True):
    trained = [x["step"] for x in read_metrics(folder) if "train/loss" in x]
    assert trained == list(range(400))
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [s["step"] for s in starts] == [0, starts[1]["step"]] and starts[1][
      "step"
    ] > step - 2
    assert pathlib.Path(folder / "job.log").read_text().count("--- attempt") == 2
  third = start()
  out, _ = third.communicate(timeout=600)
  assert third.returncode == 0 and out.count("RESULT {") == 2
  assert pathlib.Path(folders[0] / "job.log").read_text().count("--- attempt") == 2
