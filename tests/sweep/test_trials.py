"""The state of a trial is what its folder says, and a thousand are read at once."""

import collections
import json
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.sweep import made
from unijax.errors import ConfigError
from unijax.sweep import hold, pool, trials

OPENED: collections.Counter = collections.Counter()
COUNTING: list[str] = []  # the folder whose files are counted, if any


def _count(event, args):
  if event == "open" and COUNTING and str(args[0]).startswith(COUNTING[0]):
    OPENED[str(args[0])] += 1


sys.addaudithook(_count)  # hooks stay for ever; this one is idle but for COUNTING


def states(root):
  return {f.trial.name: f.state for f in trials.index(root)}


def test_the_five_states(tmp_path):
  for i in range(6):
    trials.write(tmp_path, made.trial(i))
  made.done(tmp_path, made.trial(0), {"draw": 0.5})
  made.failed(tmp_path, made.trial(1), "exit code 1: it would not")
  made.began(tmp_path, made.trial(2))
  lock = made.began(tmp_path, made.trial(3))
  made.done(tmp_path, made.trial(5, key="another"), {"draw": 0.5})
  held = hold.take(str(lock))
  found = trials.index(tmp_path)
  assert [f.state for f in found] == [
    "done", "failed", "interrupted", "running", "waiting", "waiting"
  ]  # fmt: skip
  assert found[0].result["scores"] == {"draw": [0.5]}
  assert found[1].error == "exit code 1: it would not"
  assert found[0].trial == made.trial(0)
  hold.os.close(held)
  assert states(tmp_path)["003-0"] == "interrupted"


def test_what_is_no_trial_is_left_alone(tmp_path):
  trials.write(tmp_path, made.trial(1))
  trials.write(tmp_path, made.trial(0, seed=1))
  trials.write(tmp_path, made.trial(0))
  (tmp_path / "sweep.json").write_text("{}")
  (tmp_path / "notes").mkdir()
  assert list(states(tmp_path)) == ["000-0", "000-1", "001-0"], "by point, then seed"


def test_no_sweep_and_damage_are_said(tmp_path):
  for folder in (tmp_path, tmp_path / "nosuch"):
    with pytest.raises(ConfigError, match="no trials in this folder"):
      trials.index(folder)
  trials.write(tmp_path, made.trial(0))
  (tmp_path / "000-0" / trials.SCORES).write_text('{"key": "1-')  # a full disk
  assert states(tmp_path) == {"000-0": "waiting"}
  for text in ("{", '{"name": "x"}', "[]"):
    (tmp_path / "000-0" / trials.TRIAL).write_text(text)
    with pytest.raises(ConfigError, match="`unijax sweep run` writes it again"):
      trials.index(tmp_path)


def test_a_thousand_trials_are_read_in_four_small_files_each(tmp_path):
  """Of the files of a run (metrics, checkpoints, logs) none is opened."""
  for i in range(1000):
    one = made.trial(i, size=8000)  # as long as a config
    trials.write(tmp_path, one)
    if i % 4 == 0:
      made.done(tmp_path, one, {"draw": i / 1000})
    elif i % 4 == 1:
      made.failed(tmp_path, one, "no")
    elif i % 4 == 2:
      made.began(tmp_path, one)
    (tmp_path / one.name / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / one.name / "job.log").write_text("a log\n")
  OPENED.clear()
  COUNTING.append(str(tmp_path))
  try:
    began = time.process_time()
    found = trials.index(tmp_path)
    seconds = time.process_time() - began
  finally:
    COUNTING.clear()
  counts = collections.Counter(f.state for f in found)
  assert counts == dict.fromkeys(("done", "failed", "interrupted", "waiting"), 250)
  named = collections.Counter(path.rpartition("/")[2] for path in OPENED.elements())
  assert set(named) <= {
    trials.TRIAL,
    trials.SCORES,
    pool.LOCK,
    pool.RECORD,
    tmp_path.name,
  }
  assert named[trials.TRIAL] == 1000 and max(OPENED.values()) == 1
  assert sum(named.values()) <= 4 * 1000 + 1
  print(f"1,000 trials in {seconds:.2f} s of a processor")


def test_the_index_does_not_load_jax(tmp_path):
  trials.write(tmp_path, made.trial(0))
  code = (
    "import sys; from unijax.sweep import trials; trials.index(sys.argv[1]); "
    "print('jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, str(tmp_path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == "False", done.stderr


def test_trial_files_are_whole_and_read_back(tmp_path):
  one = made.trial(2, 3, budget=1e9, counted={"steps": 5}, point={"a": [1, "x"]})
  trials.write(tmp_path, one)
  assert trials.read(tmp_path / one.name) == one
  assert json.loads((tmp_path / one.name / trials.TRIAL).read_text())["seed"] == 3
