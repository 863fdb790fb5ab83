"""A comparison: budgets are spent alike, and the page says what was found."""

import json
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as Picture

from tests import small
from tests.conftest import ROOT
from tests.train.test_resume import start, wait_for
from unijax.checkpoint.store import Store
from unijax.config import ConfigError, from_config_dict, to_dict
from unijax.evals import compare, compare_one, compare_page
from unijax.train import tasks
from unijax.train.metrics import read_metrics

STAGES = {"first": {"steps": 10, "optim": {"freeze": ("transformer/*",)}},
          "second": {"steps": 30}}  # fmt: skip


def test_names_of_run_folders():
  assert compare.name_of("configs/showo.py:1.3B") == "showo-1.3B"
  assert compare.name_of("/a/configs/codecs/vq.py:tiny") == "codecs-vq-tiny"
  with pytest.raises(ConfigError, match="'vq'"):
    compare.run(["vq.py", "configs/vq.py"], 1.0, "unused")
  with pytest.raises(ConfigError, match="more than 0"):
    compare.run(["vq.py"], 0.0, "unused")


def test_every_task_is_measured_and_has_a_table():
  assert set(compare_one.TASKS) == set(compare_page.TITLES) == set(tasks.TASKS)


def test_a_budget_buys_whole_steps_and_no_more():
  c = small.scenes(optim__warmup_steps=100)
  one = compare_one.budget(c, 1.0)[0]
  assert one["steps"] == 1 and one["flops"] > 1.0
  found, more = compare_one.budget(c, 40.5 * one["flops"])
  assert found["steps"] == 40 and found["flops"] == pytest.approx(40 * one["flops"])
  assert more["train.steps"] == 40 and more["optim.warmup_steps"] == 4
  own, more = compare_one.budget(c, None)
  assert own["flops"] == pytest.approx(c.train.steps * one["flops"]) and not more


def staged():
  values = to_dict(small.scenes())
  values["train"].update(stages=list(STAGES), steps=0)
  return from_config_dict({**values, "stages": STAGES})


def test_stages_keep_their_shares():
  c = staged()
  own = sum(stage.steps for stage in c.stages)
  one, _ = compare_one.budget(c, 1.0)
  assert one["steps"] == 2  # one each, at least
  dense = compare_one.budget(small.scenes(), 1.0)[0]["flops"]
  assert dense < one["flops"] < 2 * dense  # where most is frozen a step is cheaper
  first, second = one["flops"] - dense, dense
  whole = 10 * first + 30 * second
  found, more = compare_one.budget(c, 0.5001 * whole)
  assert found["steps"] == own // 2 and found["flops"] == pytest.approx(whole / 2)
  assert more.items() >= {
    "stages.first.steps": 5, "stages.second.steps": 15, "train.steps": 0
  }.items()  # fmt: skip


def test_what_a_process_said_becomes_one_sentence(tmp_path):
  log = tmp_path / "log"
  log.write_text("step 1\nunijax: 2 problems in the config:\n  a: b\n  c: d\n")
  assert compare.why(log, 2) == "2 problems in the config: a: b c: d"
  log.write_text("step 1\nKilled\n")
  assert compare.why(log, 137) == "exit code 137: Killed"


def result(name, draw, bits, folder, task="unified"):
  """A system as `compare_one` describes it, with pictures and metrics in its folder."""
  (folder / name).mkdir()
  pixels = np.full((4, 8, 3), len(name), np.uint8)
  for file in ("drawn", "read"):
    Picture.fromarray(pixels).save(folder / name / f"{file}.png")
  lines = [{"step": i, "train/text_nll": 1.0 / (i + 1)} for i in range(3)]
  text = "".join(json.dumps(x) + "\n" for x in lines)
  (folder / name / "metrics.jsonl").write_text(text)
  said = {"asked": "which?", "truth": "red", "exact": draw > 0.5}
  return {
    "name": name, "config": f"configs/{name}.py", "task": task, "parameters": 1_500_000,
    "steps": 7, "flops": 7e9, "flops_per_step": 1e9, "seconds": {"training": 3.0},
    "scores": {"iid draw": [draw, draw - 0.1, draw + 0.1], "bits per byte": [bits]},
    "about": {"guess": {"iid draw": 0.05}}, "words": ["one", "two"],
    "exact": [True, False], "drawn": "drawn.png", "originals": "", "read": "read.png",
    "said": [{**said, "answer": f"{name} 1"}, {**said, "answer": f"{name} 2"}],
  }  # fmt: skip


def test_the_page_and_the_table(tmp_path):
  systems = [
    result("aa", 0.4, 2.0, tmp_path), result("bbb", 0.6, 3.0, tmp_path, "drawing"),
    {"name": "c", "config": "c.py", "error": "it would not"},
  ]  # fmt: skip
  found = {"flops": 7e9, "prompts": 9, "overrides": [], "systems": systems}
  compare_page.write(tmp_path, tmp_path, found)
  text = (tmp_path / "compare.md").read_text()
  rows = {x.split(" | ")[0].strip("| "): x for x in text.splitlines() if "|" in x}
  assert "| 40.0 % (30.0–50.0) | \\*2 |" in rows["aa"]  # fewer bits are better
  assert "| \\*60.0 % (50.0–70.0) | 3 |" in rows["bbb"]
  assert "| 5.0 % |" in rows["guessing"]
  assert "- c: it would not" in text
  page = (tmp_path / "index.html").read_text()
  for words in ("bbb", "it would not", "✗ aa 1", "✓ bbb 2", "text_nll", "one", "two"):
    assert words in page, words
  assert len(re.findall(r"<img", page)) == 2 * 2 + 2  # drawn, and read once
  sheet = np.asarray(Picture.open(tmp_path / "compare.png"))
  for name in ("aa", "bbb"):
    assert (sheet == len(name)).all(axis=-1).sum() > 9000, name


CHILD = """
import os, pathlib, signal, sys, time
folder, told = pathlib.Path(sys.argv[1]), []
for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, lambda number, frame: told.append(number))
(folder / "group").write_text(str(os.getpgid(0)))
while not told:
  time.sleep(0.01)
(folder / "told").write_text(str(told[0]))
while not (folder / "saved").exists():
  time.sleep(0.01)
sys.exit(1)
"""
PARENT = """
import sys
from unijax.evals import compare
with compare.Child() as child:
  try:
    child.run([sys.executable, "-c", *sys.argv[1:]])
  except compare.Interrupted as error:
    sys.exit(error.code)
"""


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_a_comparison_that_is_stopped_waits_for_its_child(tmp_path, number, code):
  parent = subprocess.Popen(
    [sys.executable, "-c", PARENT, CHILD, str(tmp_path)], cwd=ROOT, process_group=0
  )
  group = tmp_path / "group"
  wait_for(parent, lambda: group.exists() and group.read_text())
  assert int(group.read_text()) != parent.pid, "a terminal would tell it a second time"
  parent.send_signal(number)
  wait_for(parent, (tmp_path / "told").exists)
  with pytest.raises(subprocess.TimeoutExpired):
    parent.wait(2)
  (tmp_path / "saved").touch()
  assert parent.wait(60) == code
  assert (tmp_path / "told").read_text() == str(int(number))


def test_a_child_that_was_stopped_stops_the_comparison():
  for code, error in ((75, compare.Preempted), (130, compare.Interrupted)):
    with pytest.raises(error) as raised, compare.Child() as child:
      child.run([sys.executable, "-c", f"import sys; sys.exit({code})"])
    assert raised.value.code == code
  with compare.Child() as child:
    assert child.run([sys.executable, "-c", "import sys; sys.exit(3)"]) == 3
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
def test_sigterm_to_a_comparison_saves_the_run_and_leaves_nobody_behind(tmp_path):
  workdir = tmp_path / "transfusion-tiny"
  parent = start(
    "-m", "unijax", "compare", "configs/transfusion.py", f"--workdir={tmp_path}",
    "--flops=1e15", "--config.model.depth=1", "--config.model.scan_unroll=1",
  )  # fmt: skip
  wait_for(parent, lambda: len(read_metrics(workdir)) > 0)
  (child,) = (
    pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
  )
  parent.send_signal(signal.SIGTERM)
  out, err = parent.communicate(timeout=120)
  assert parent.returncode == 75 and "the same command goes on" in err, err
  assert not pathlib.Path(f"/proc/{child}").exists() and "RESULT" not in out
  store = Store(workdir, read_only=True)
  step = store.steps()[-1]
  store.close()
  assert f"stopped at step {step} of" in (tmp_path / "transfusion-tiny.log").read_text()


@pytest.mark.slow
def test_one_command_trains_scores_and_goes_on(tmp_path):
  """Two systems of other tasks and one that fails; again, and nothing is trained."""
  small_ones = (
    "--config.model.depth=1", "--config.model.width=32", "--config.codec.width=8",
    "--config.eval.loss_batches=1", "--config.eval.batch_size=4",
    "--config.eval.kid_images=4",
  )  # fmt: skip
  command = [
    sys.executable, "-m", "unijax", "compare", "configs/transfusion.py",
    "configs/codecs/kl.py", "configs/nosuch.py", "--flops=3e9", "--eval-prompts=4",
    f"--workdir={tmp_path}", *small_ones,
  ]  # fmt: skip

  def run():
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))

  first = run()
  assert first["failed"] == ["nosuch-tiny"]
  assert set(first["scores"]) == {"transfusion-tiny", "codecs-kl-tiny"}
  before = (tmp_path / "transfusion-tiny" / "scores.json").stat().st_mtime_ns
  assert run() == first
  assert (tmp_path / "transfusion-tiny" / "scores.json").stat().st_mtime_ns == before
  (tmp_path / "transfusion-tiny" / "scores.json").unlink()  # as if it was stopped there
  assert run()["scores"] == first["scores"]
