"""Laws of the account: every second of a run is in one bucket, restarts included."""

import argparse
import json
import re
import signal
import time

import jax
import pytest

from tests import small
from tests.train import test_resume
from tests.train.test_resume import start, wait_for
from unijax.checkpoint.errors import CheckpointError
from unijax.commands import goodput
from unijax.train import events, loop
from unijax.train.events import DOWN, LOST, SPANS, Events
from unijax.train.metrics import read_metrics

TRAIN = """
import sys, time
from tests.train import test_resume
from unijax.train import events
from unijax.train.loop import Hook, train
pause = Hook(2, lambda run, state, step: time.sleep(0.1))
train(test_resume.config(), sys.argv[1], [pause], began=events.process_began())
"""


def begin(time, step, took=1.0):
  return {"event": "start", "time": time, "began": time - took, "step": step}


def spans(time, first, end, **seconds):
  return {
    "event": "spans", "time": time, "first": first, "end": end, "seconds": seconds,
  }  # fmt: skip


def stop(time, step):
  return {"event": "stop", "time": time, "step": step, "reason": "done"}


def test_steps_done_again_are_lost_and_what_was_spent_once_is_not():
  found = events.account([
    begin(101.0, 0),
    spans(111.0, 0, 1, init=1.0, compile=10.0),
    spans(115.0, 1, 5, step=3.0, data_wait=1.0),
    spans(116.0, 5, 5, checkpoint=1.0),  # at step 5, which is kept
    spans(124.0, 5, 9, step=4.0, evaluation=4.0),
    # killed at some time after 124; begun again at 130, from step 5
    begin(131.0, 5),
    spans(141.0, 5, 6, init=2.0, compile=9.0),
    spans(145.0, 6, 10, step=4.0),
    stop(145.0, 10),
    begin(148.0, 8),  # rewound, into the middle of a line
    spans(151.0, 8, 10, init=1.0, compile=2.0, step=1.0),
    stop(151.0, 10),
  ])  # fmt: skip
  want = dict.fromkeys([*SPANS, LOST, DOWN], 0.0)
  want.update(init=4.0, compile=21.0, data_wait=1.0, checkpoint=1.0)
  want.update({"step": 3.0 + 2.0 + 1.0, LOST: 8.0 + 2.0, DOWN: 6.0 + 2.0})
  assert found["seconds"] == pytest.approx(want)
  assert found["wall_seconds"] == sum(want.values()) == 51.0
  assert found["lost_steps"] == 4 + 2 and found["steps"] == 10 and found["starts"] == 3
  assert found["goodput"] == 6.0 / 51.0
  text = goodput.table(found)
  assert re.search(r"^sum +51\.0 +100\.0%  of 51s$", text, re.M)
  assert "10 steps kept, 6 done again, 2 restarts; goodput 11.8%" in text


def test_lines_that_were_cut_are_passed_over_and_hurt_no_other(tmp_path):
  for step in (0, 7):
    made = Events(tmp_path)
    made.start(step)
    made.enter("step")
    made.step = step + 1
    made.flush()
    with made.path.open("a") as file:  # killed while writing
      file.write('{"event": "spans", "time": 12.5, "fir')
  found = [(x["event"], x.get("step", x.get("end"))) for x in events.read(tmp_path)]
  assert found == [("start", 0), ("spans", 1), ("start", 7), ("spans", 8)]
  for other in ("null", "[1]", '{"event": "spans"}'):
    made.path.write_text(other + "\n")
    assert events.read(tmp_path) == []


def test_spans_inside_each_other_count_once(tmp_path):
  made = Events(tmp_path)
  made.start(0)
  with made.within("evaluation"):
    with made.within("checkpoint"):
      time.sleep(0.02)
    assert made.span == "evaluation"
  assert made.span == "init"
  with pytest.raises(ZeroDivisionError), made.within("step"):
    _ = 1 / 0
  made.stop("done")
  (line,) = [x for x in events.read(tmp_path) if x["event"] == "spans"]
  assert set(line["seconds"]) == {"init", "evaluation", "checkpoint", "step"}
  whole = line["time"] - events.read(tmp_path)[0]["began"]
  assert sum(line["seconds"].values()) == pytest.approx(whole, abs=1e-3)


def assert_whole(lines, found):
  """Buckets, measured span by span, against the clock on the wall, within 1 %."""
  wall = lines[-1]["time"] - lines[0]["began"]
  assert found["wall_seconds"] == pytest.approx(wall)
  assert sum(found["seconds"].values()) == pytest.approx(wall, rel=0.01)


@pytest.mark.slow
def test_a_killed_and_resumed_run_adds_up(tmp_path, capsys):
  """Killed after step 8 or more, resumed from a checkpoint at 3 or 6."""
  process = start("-c", TRAIN, tmp_path)
  wait_for(process, lambda: len(read_metrics(tmp_path)) > 7)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  killed = events.read(tmp_path)
  done = max(x["end"] for x in killed if x["event"] == "spans")
  assert [x["reason"] for x in killed if x["event"] == "stop"] == [] and done >= 8
  process = start("-c", TRAIN, tmp_path)
  _, err = process.communicate(timeout=600)
  assert process.returncode == 0, err

  lines = events.read(tmp_path)
  result = goodput.run(argparse.Namespace(workdir=str(tmp_path)))
  assert_whole(lines, events.account(lines))
  again = [x["step"] for x in lines if x["event"] == "start"][1]
  assert again in (3, 6, 9)
  assert result["lost_steps"] == done - again and result["starts"] == 2
  assert result["steps"] == test_resume.STEPS
  seconds = result["seconds"]
  for name in ("init", "compile", "step", "evaluation", "checkpoint", DOWN):
    assert seconds[name] > 0, name
  assert (seconds[LOST] > 0) == (done > again)
  # Importing takes seconds, and belongs to the run: a process begins when it begins.
  assert lines[0]["time"] - lines[0]["began"] > 0.2
  assert result["goodput"] == pytest.approx(
    seconds["step"] / result["wall_seconds"], abs=1e-3
  )
  printed = capsys.readouterr().out
  assert "1 restarts" in printed and "steps done again after a restart" in printed


@pytest.mark.slow
def test_runs_one_after_another_in_one_process_do_not_overlap(tmp_path):
  """The beginning of the process is then not that of the run."""
  c = small.scenes()
  loop.train(small.scenes(train__steps=2), tmp_path)
  file = tmp_path / "config.json"
  content = json.loads(file.read_text())
  content["config"]["train"]["steps"] = 6
  file.write_text(json.dumps(content))
  loop.train(c, tmp_path, began=events.process_began())
  before = (tmp_path / "events.jsonl").read_text()
  loop.train(c, tmp_path)  # finished: looking at it costs no time
  assert (tmp_path / "events.jsonl").read_text() == before
  lines = events.read(tmp_path)
  found = events.account(lines)
  assert_whole(lines, found)
  assert found["starts"] == 2 and found["lost_steps"] == 0 and found["steps"] == 6
  assert found["seconds"][DOWN] == pytest.approx(0.0, abs=1e-3)
  assert jax.process_index() == 0


def test_no_events(tmp_path):
  with pytest.raises(CheckpointError, match=r"has no events\.jsonl with a start"):
    goodput.run(argparse.Namespace(workdir=str(tmp_path)))
