"""Runs jobs on this machine, a few at a time, and leaves nobody behind.

Every job is a process of its own in its own process group, with its output in
WORKDIR/job.log and its state in WORKDIR/job.json. One that ends with a code of
`requeue` is started again; one that crashes is recorded and stops no other. SIGTERM and
Ctrl-C go on to all of them, which save and end before this process does. A job whose
folder another process trains in waits for that (see `hold`).

Nothing here, and nothing it imports, loads JAX.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from unijax.disk import write_whole
from unijax.sweep import hold, job_log
from unijax.sweep.board import Board, clock
from unijax.sweep.jobs import JobSpec

STOPPED = 75  # exit code of a driver that was asked to stop: the same command goes on
LOCK, RECORD, LOG = "job.lock", "job.json", "job.log"  # in the run folder
REFRESH = 1.0  # seconds between looks at the runs
RETRY = 2.0  # seconds between looks at a folder that another process trains in


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a job ended.

  Attributes:
    state: done; failed (a code that no restart helps, or too many restarts); stopped
      (this process was asked to stop, or is to restart nothing: the same command goes
      on).
    code: its last exit code, negative for a signal; None if it was never started.
    attempts: how often it was started, here; 0 where it was done before.
    seconds: from the first start to the last end, here.
    result: what its line RESULT said.
    error: one line about what went wrong.
  """

  name: str
  workdir: str
  state: Literal["done", "failed", "stopped"]
  code: int | None
  attempts: int
  seconds: float
  result: dict[str, Any]
  error: str


def exit_code(outcomes: Iterable[Outcome]) -> int:
  """Of a driver: 0 if all are done, 75 if it was asked to stop, else 1."""
  states = {outcome.state for outcome in outcomes}
  return STOPPED if "stopped" in states else int("failed" in states)


def finished(job: JobSpec) -> Outcome | None:
  """The outcome of a job that is done, with this very command; else None."""
  try:
    record = json.loads((pathlib.Path(job.workdir) / RECORD).read_text())
    same = record["command"][1:] == list(job.command[1:])
    if record["state"] != "done" or not same or record["config"] != job.config:
      return None
    return Outcome(
      job.name, job.workdir, "done", 0, 0, record["seconds"], record["result"], ""
    )
  except (OSError, ValueError, KeyError, TypeError):
    return None


@dataclasses.dataclass
class Trial:
  """A job while it is run: what `Board` shows of it, too."""

  job: JobSpec
  name: str
  workdir: str
  process: subprocess.Popen | None = None
  attempts: int = 0
  began: float = 0.0  # first start, by time.monotonic()
  slot: int = 0  # that it runs in
  next_look: float = 0.0  # while another process trains in its folder


class Pool:
  """Runs jobs; `run` is called once.

  Args:
    slots: jobs at a time.
    board: shows them.
  """

  def __init__(self, slots: int = 1, board: Board | None = None):
    if slots < 1:
      raise ValueError(f"{slots} slots: give at least 1")
    self.slots, self.board = slots, board or Board()
    self.asked = 0  # how often this process was asked to stop
    self.waiting: collections.deque[Trial] = collections.deque()
    self.busy: list[Trial] = []  # another process trains in their folders
    self.running: list[Trial] = []
    self.outcomes: dict[str, Outcome] = {}
    # Unlike Queue it may be written by a signal handler at any moment.
    self._ended: queue.SimpleQueue[tuple[Trial, int] | None] = queue.SimpleQueue()

  def run(self, jobs: Sequence[JobSpec]) -> list[Outcome]:
    """Runs all jobs to their end; returns their outcomes in the same order.

    After SIGTERM or Ctrl-C nothing more is started, and what was not done is "stopped".
    A second signal goes on to the jobs too, a third one kills them.
    """
    self.waiting.extend(Trial(job, job.name, job.workdir) for job in jobs)
    self._total = len(self.waiting)
    self.slots = min(self.slots, max(self._total, 1))
    with self._signals():
      while self.waiting or self.busy or self.running:
        self._start()
        with contextlib.suppress(queue.Empty):
          if ended := self._ended.get(timeout=REFRESH if self.running else 0.1):
            self._end(*ended)
        self.board.show(self.running, self._summary())
    self.board.close()
    return [self.outcomes[job.name] for job in jobs]

  def _start(self) -> None:
    """Fills the free slots; once asked to stop, gives up what is not running."""
    while self.asked and (self.waiting or self.busy):
      trial = (self.waiting or self.busy).pop()
      self._record(trial, "stopped", None)
    now = time.monotonic()
    for trial in [t for t in self.busy if t.next_look <= now]:
      self.busy.remove(trial)
      self.waiting.appendleft(trial)
    while self.waiting and len(self.running) < self.slots:
      trial = self.waiting.popleft()
      try:
        if before := finished(trial.job):
          self._keep(before, "was done before")
        elif hold.held(pathlib.Path(trial.workdir) / LOCK):
          self._wait_for_other(trial)
        else:
          self._launch(trial)
      except OSError as error:  # no folder can be made there, the disk is full
        how = trial.attempts, 0.0, {}, str(error)
        failed = Outcome(trial.name, trial.workdir, "failed", None, *how)
        self._keep(failed, f"failed: {error}")

  def _launch(self, trial: Trial) -> None:
    folder = pathlib.Path(trial.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    trial.attempts += 1
    trial.began = trial.began or time.monotonic()
    command = [
      sys.executable, "-S", "-E", hold.__file__, str(folder / LOCK), str(os.getpid()),
      *trial.job.command,
    ]  # fmt: skip
    with (folder / LOG).open("ab") as log:
      stamp = time.strftime("%Y-%m-%d %H:%M:%S")
      log.write(f"--- attempt {trial.attempts}, {stamp}\n".encode())
      log.flush()
      trial.process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        env={**os.environ, **dict(trial.job.env)}, process_group=0,
      )  # fmt: skip
    trial.slot = min(set(range(self.slots)) - {other.slot for other in self.running})
    with contextlib.suppress(OSError):  # it has ended
      _share(trial.process.pid, trial.slot, self.slots)
    self.running.append(trial)
    process = trial.process
    threading.Thread(
      target=lambda: self._ended.put((trial, process.wait())), daemon=True
    ).start()
    if self.asked:  # before there was anybody to tell
      process.send_signal(signal.SIGTERM)

  def _end(self, trial: Trial, code: int) -> None:
    """What follows from an exit code."""
    self.running.remove(trial)
    lock = pathlib.Path(trial.workdir) / LOCK
    if code == hold.BUSY and hold.last(lock).get("pid") != trial.process.pid:
      trial.attempts -= 1  # it never began
      self._wait_for_other(trial)
    elif code == 0:
      self._record(trial, "done", code)
    elif self.asked or (code in trial.job.requeue and not trial.job.retries):
      self._record(trial, "stopped", code)  # to be started again by somebody else
    elif code in trial.job.requeue and trial.attempts <= trial.job.retries:
      self.board.say(
        f"{trial.name}: exit code {code}, starts again "
        f"({trial.attempts} of {trial.job.retries} restarts)"
      )
      self.waiting.appendleft(trial)
    else:
      self._record(trial, "failed", code)

  def _wait_for_other(self, trial: Trial) -> None:
    if not trial.next_look:
      who = hold.last(pathlib.Path(trial.workdir) / LOCK)
      self.board.say(
        f"{trial.name}: process {who.get('pid')} on {who.get('host')} trains in "
        f"{trial.workdir}; this waits until it ends"
      )
    trial.next_look = time.monotonic() + RETRY
    self.busy.append(trial)

  def _record(self, trial: Trial, state, code: int | None) -> None:
    """Writes job.json, keeps the outcome and says it."""
    job = trial.job
    seconds = round(time.monotonic() - trial.began, 3) if trial.attempts else 0.0
    log = pathlib.Path(job.workdir) / LOG
    error = job_log.error(log, code) if state == "failed" else ""
    result = job_log.result(log) if state == "done" else {}
    outcome = Outcome(
      job.name, job.workdir, state, code, trial.attempts, seconds, result, error
    )
    if trial.attempts:
      record = dataclasses.asdict(outcome) | {"ended": time.time()}
      record |= {"command": list(job.command), "config": job.config}
      try:
        path = pathlib.Path(job.workdir) / RECORD
        write_whole(path, json.dumps(record, indent=1) + "\n")
      except OSError as lost:
        self.board.say(f"{job.name}: {RECORD} is not written: {lost}")
    said = {"done": f"done in {clock(seconds)}", "failed": f"failed: {error}"}
    self._keep(outcome, said.get(state, "stopped" if trial.attempts else ""))

  def _keep(self, outcome: Outcome, said: str) -> None:
    self.outcomes[outcome.name] = outcome
    if said:
      number = f"[{len(self.outcomes)}/{self._total}]"
      self.board.say(f"{number} {outcome.name}: {said}")

  def _summary(self) -> str:
    states = collections.Counter(o.state for o in self.outcomes.values())
    states["running"], states["waiting"] = len(self.running), len(self.waiting)
    states["trained elsewhere"] = len(self.busy)
    parts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
    asked = "; asked to stop, waiting for them to save" if self.asked else ""
    return f"{self._total} runs: {parts}{asked}"

  @contextlib.contextmanager
  def _signals(self):
    """While open, SIGINT and SIGTERM go on to the jobs."""
    before = {}
    if threading.current_thread() is threading.main_thread():
      both = signal.SIGINT, signal.SIGTERM
      before = {number: signal.signal(number, self._tell) for number in both}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

  def _tell(self, number: int, frame) -> None:
    self.asked += 1
    for trial in list(self.running):
      with contextlib.suppress(ProcessLookupError):
        trial.process.send_signal(signal.SIGKILL if self.asked > 2 else number)
    self._ended.put(None)  # wakes the loop


def _share(process: int, slot: int, slots: int) -> None:
  """Gives a process the processors of its slot, where the system can.

  Runs that share all of them wait for each other's threads: two that take turns on two
  processors are slower than two that have one each (BUILD_NOTES.md).
  """
  if slots > 1 and hasattr(os, "sched_setaffinity"):
    all_of_them = sorted(os.sched_getaffinity(0))
    own = all_of_them[slot::slots] or [all_of_them[slot % len(all_of_them)]]
    os.sched_setaffinity(process, own)
