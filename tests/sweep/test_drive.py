"""A sweep is done once, however often its driver is killed."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.sweep import killed, made
from tests.train import test_resume
from unijax.config import ConfigError
from unijax.sweep import drive, pool, table, trials
from unijax.train.metrics import read_metrics

ABOUT = {"file": "a.py", "preset": "tiny", "flops": None, "overrides": [], "scores": []}


def driver(root) -> subprocess.Popen:
  command = [sys.executable, "-m", "tests.sweep.killed", str(root)]
  return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, process_group=0)


def test_twelve_trials_whose_driver_is_killed_three_times(tmp_path):
  """Ends with every trial exactly once, and the table of the sweep left alone."""
  alone, root = tmp_path / "alone", tmp_path / "killed"
  for place in (alone, root):
    killed.write(place)
  drive.run(alone, slots=4, make_job=killed.job)
  for done in (1, 4, 8):
    process = driver(root)
    killed.wait(process, lambda done=done: killed.counts(root)["done"] >= done)
    killed.wait(process, lambda: killed.counts(root)["running"])  # dies in the middle
    process.kill()
    process.wait()
    left = killed.counts(root)
    assert left["done"] < 11 and left["waiting"] + left["interrupted"] + left["running"]
  assert driver(root).wait(300) == 0
  found = trials.index(root)
  assert [f.state for f in found] == ["done"] * 8 + ["failed"] + ["done"] * 3
  for f in found:
    if f.state == "done":
      assert (f.folder / "ends.txt").read_text() == "once\n", f.trial.name
      steps = (f.folder / "steps.txt").read_text().split()
      assert steps == [str(i) for i in range(killed.STEPS)], f.trial.name
  text = table.plain(found)
  assert text == table.plain(trials.index(alone))
  assert "width=4, seed 0 (004-0): exit code 1: it would not" in text


def test_a_crash_is_a_row_and_is_tried_again_only_if_asked(tmp_path):
  killed.write(tmp_path)
  for i in range(12):
    if f"{i // 2:03d}-{i % 2}" not in (killed.CRASHES, "001-1"):
      made.done(tmp_path, made.trial(i // 2, i % 2), {"draw": 0.5})
  first = drive.run(tmp_path, make_job=killed.job)
  assert [(x.name, x.state) for x in first] == [("001-1", "done"), ("004-0", "failed")]
  assert drive.run(tmp_path, make_job=killed.job) == []
  again = drive.run(tmp_path, again=True, make_job=killed.job)
  assert [(x.name, x.state) for x in again] == [("004-0", "failed")]
  (tmp_path / "001-1" / trials.SCORES).unlink()  # job.json still says that it is done
  assert [x.name for x in drive.run(tmp_path, make_job=killed.job)] == ["001-1"]
  assert killed.counts(tmp_path)["done"] == 11


def test_a_folder_holds_one_sweep(tmp_path):
  wanted = [made.trial(0), made.trial(1)]
  assert drive.prepare(tmp_path, ABOUT, wanted) == []
  assert drive.prepare(tmp_path, {**ABOUT, "file": "renamed.py"}, wanted) == []
  assert drive.read_about(tmp_path)["file"] == "renamed.py"
  with pytest.raises(ConfigError, match=r"flops None, not 1000.0: give another --root"):
    drive.prepare(tmp_path, {**ABOUT, "flops": 1e3}, wanted)
  assert drive.prepare(tmp_path, ABOUT, wanted[:1]) == ["001-0"]
  assert len(trials.index(tmp_path)) == 2


def test_the_job_of_a_trial(tmp_path):
  trials.write(tmp_path, made.trial(3, label="weight=0.5, a/b=ü"))
  job = drive.job(trials.index(tmp_path)[0])
  assert job.name == "003-0-weight=0.5,a,b=,seed=0"
  assert job.command[1:] == (
    "-m", "unijax", "sweep", "trial", str(tmp_path / "003-0"), "--key=1-4"
  )  # fmt: skip
  assert job.workdir == str(tmp_path / "003-0")


STUDY = """
from configs import clip
from unijax.sweep.points import param, product

SCENES = "data.sources.scenes.options."
BASELINE = {SCENES + "max_objects": 1}


def get_config(preset="tiny"):
  c = clip.get_config(preset)
  c.vision.update(depth=1, width=16, heads=2, mlp_width=16)
  c.text.update(depth=1, width=16, heads=2, mlp_width=16, length=12)
  c.data.update(window=16, threads=1)
  del c.data.sources.emoji
  c.align.width = 8
  c.optim.warmup_steps = 2
  c.train.update(steps=12, batch_size=4, log_every=1, eval_every=100)
  c.checkpoint.every_steps = 4
  c.eval.update(prompts=4, batch_size=4, loss_batches=1)
  return c


def sweep(preset="tiny"):
  # Knobs of the data alone: all trials run the same compiled programs.
  return product(param(SCENES + "max_objects", [1, 2]), param(SCENES + "grid", [2, 3]))
"""


def start(*words) -> subprocess.Popen:
  """Starts a verb, whose trials compile in half the time."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    return test_resume.start(*words)


def unijax(*words) -> dict:
  """Runs a verb to its end; what its RESULT says."""
  process = start("-m", "unijax", *words)
  out, err = process.communicate(timeout=3600)
  assert process.returncode == 0, err[-2000:]
  return json.loads(out.splitlines()[-1].removeprefix("RESULT "))


@pytest.mark.slow
def test_real_trainings_whose_driver_is_killed_three_times(tmp_path):
  """The law of sweeps: 12 trainings, each exactly once, and the same table."""
  study = tmp_path / "study.py"
  study.write_text(STUDY)
  run = ("sweep", "run", str(study), "--seeds=3", "--eval-prompts=4", "--slots=3")
  alone, root = tmp_path / "alone", tmp_path / "killed"
  assert unijax(*run, f"--root={alone}")["done"] == 12
  words = ("-m", "unijax", *run, f"--root={root}")
  for done in (0, 3, 7):
    process = start(*words)
    killed.wait(process, lambda done=done: _training(root, done), 1800)
    process.kill()
    process.wait()
    words = ("-m", "unijax", "sweep", "resume", str(root))
  result = unijax(*words[2:])
  assert (result["done"], result["trials"]) == (12, 12)
  one, other = trials.index(alone), trials.index(root)
  assert [f.trial.name for f in one] == [f.trial.name for f in other]
  for a, b in zip(one, other, strict=True):
    assert a.result["scores"] == b.result["scores"], a.trial.label
    assert a.result["about"] == b.result["about"] and a.trial == b.trial
    steps = [m["step"] for m in read_metrics(b.folder) if "train/loss" in m]
    assert steps == list(range(12)), b.trial.label
  assert table.plain(one) == table.plain(other)
  attempts = sum((f.folder / pool.LOG).read_text().count("--- attempt") for f in other)
  assert attempts > 12, "no training was interrupted"
  assert unijax("sweep", "table", str(root))["failed"] == 0
  unijax("sweep", "plot", str(root))
  unijax("sweep", "export", str(root), f"--out={root / 'a.csv'}")
  assert (root / "index.html").stat().st_size > 10_000
  assert len((root / "a.csv").read_text().splitlines()) == 13


def _training(root: pathlib.Path, done: int) -> bool:
  """Whether so many trials are done and another one is in its middle."""
  if not (root / drive.SWEEP).exists():
    return False
  found = trials.index(root)
  running = [f for f in found if f.state == "running"]
  started = any(len(read_metrics(f.folder)) > 5 for f in running)
  return sum(f.state == "done" for f in found) >= done and started
