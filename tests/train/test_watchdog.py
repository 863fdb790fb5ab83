"""Laws of the watchdog: it tells a hang from a long wait, once, and says where."""

import dataclasses
import re
import threading

import pytest

from tests import small
from tests.train.test_resume import start
from unijax.train.watchdog import LONG, USUAL, Watchdog

GUARD = dataclasses.replace(small.config().guard, hang_seconds=10.0, hang_exit=False)

STALLED = """
import sys, threading
from tests import small
from unijax.data.loader import Loader
from unijax.train import loop, tasks

class Stalled(Loader):
  def iterate(self, step, part=None):
    for number, batch in enumerate(super().iterate(step, part), step):
      if number == 4:
        self.a_disk_that_never_answers()
      yield batch

  def a_disk_that_never_answers(self):
    threading.Event().wait()

tasks.UnifiedTask.loader = staticmethod(Stalled)
loop.train(small.scenes(guard__hang_seconds=15.0, guard__hang_exit=True), sys.argv[1])
"""


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def watched(tmp_path):
  clock, said = Clock(), []
  watchdog = Watchdog(GUARD, tmp_path, said.append, lambda: 1 / 0, clock)
  watchdog.describe = lambda: "batch 17"
  return watchdog, clock, said


def late(watchdog, clock, seconds) -> bool:
  clock.now += seconds
  return watchdog.check()


def test_a_step_that_does_not_end_is_told_once(watched, tmp_path):
  watchdog, clock, said = watched
  with watchdog.long("compiling"):
    assert not late(watchdog, clock, 11)
  watchdog.step_ended()
  watchdog.doing = "waiting for a batch"
  assert not late(watchdog, clock, 9)
  assert late(watchdog, clock, 2) and not late(watchdog, clock, 50)
  assert len(said) == 1 and "hang: 11s in: waiting for a batch" in said[0]
  text = (tmp_path / "hang-0.txt").read_text()
  assert "11 s in: waiting for a batch (limit 10 s)\nbatch 17\n" in text
  assert "test_a_step_that_does_not_end_is_told_once" in text  # this very stack
  watchdog.step_ended()
  assert not late(watchdog, clock, 9) and late(watchdog, clock, 2)
  assert (tmp_path / "hang-0.txt").read_text().count("batch 17") == 2


def test_steps_that_are_slow_by_habit_are_no_hang(watched):
  watchdog, clock, _ = watched
  with watchdog.long("compiling"):
    pass
  for _ in range(5):
    clock.now += 3.0
    watchdog.step_ended()
  assert watchdog.limit() == USUAL * 3.0
  assert not late(watchdog, clock, USUAL * 3.0 - 1) and late(watchdog, clock, 2)


def test_what_is_no_step_has_a_limit_of_its_own_and_does_not_count(watched):
  watchdog, clock, said = watched
  with watchdog.long("compiling"):
    clock.now += 30.0
  clock.now += 1.0
  watchdog.step_ended()
  with watchdog.long("hooks at step 1"):
    assert not late(watchdog, clock, LONG * 10 - 1)
    assert late(watchdog, clock, 2) and "hooks at step 1" in said[0]
  clock.now += 1.0
  watchdog.step_ended()
  assert list(watchdog._steps) == [1.0, 1.0]
  assert not late(watchdog, clock, 9)


def test_the_thread_ends_with_the_loop(watched):
  watchdog, _, _ = watched
  with watchdog:
    assert "watchdog" in [t.name for t in threading.enumerate()]
  assert "watchdog" not in [t.name for t in threading.enumerate()]


@pytest.mark.slow
def test_a_loader_that_stalls_ends_a_real_run(tmp_path):
  process = start("-c", STALLED, tmp_path)
  _, err = process.communicate(timeout=600)
  assert process.returncode == 76, err
  assert "in: waiting for a batch" in err and "exiting with 76" in err
  text = (tmp_path / "hang-0.txt").read_text()
  assert "a_disk_that_never_answers" in text and "most recent call first" in text
  assert re.search(r"last batch read: 3; the next .* rows 8 to 9 of the plan", text)
  assert '"reason": "hang"' in (tmp_path / "events.jsonl").read_text()
