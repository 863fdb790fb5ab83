"""Where the time of a run went: `events.jsonl`, and the account that is made of it.

The training thread is always in exactly one span (`SPANS`). Their seconds are added up
and written as one line at every log interval, checkpoint and end, so the seconds of a
process are complete by construction. A line is one write to a file opened for
appending: a process that is killed loses what it did since its last line, and a line
cut in half is passed over when read.

  {"event": "start", "time": .., "began": .., "step": 0}
  {"event": "spans", "time": .., "first": 0, "end": 20, "seconds": {"step": 1.5, ..}}
  {"event": "stage", "time": .., "step": 10, "stage": "all"}
  {"event": "stop", "time": .., "step": 20, "reason": "done"}

Times are of the wall clock (Unix seconds); seconds inside a process are measured by a
clock that nobody sets.
"""

import contextlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

SPANS = {  # what the training thread does, and what the time after it is called
  "init": "before the first step: data, parameters or restoring, tracing",
  "compile": "the first step of a process",
  "step": "dispatching steps and waiting for the device",
  "data_wait": "waiting for a batch",
  "evaluation": "hooks: held-out losses, samples, scores",
  "checkpoint": "saving, as long as it blocks training",
  "other": "logging and the loop itself",
}
LOST = "lost"  # steps done again after a restart, with all that was done between them
DOWN = "down"  # between the last line of a process and the start of the next


class Events:
  """Writes events.jsonl; only the first process of a run does.

  Args:
    workdir: the run directory.
    began: when the process started, by time.time(); None is now.

  Attributes:
    span: what the training thread does now.
    step: the next step to be done; the loop keeps it.
  """

  def __init__(self, workdir: pathlib.Path, began: float | None = None):
    self.path = workdir / "events.jsonl"
    self.began = time.time() if began is None else began
    self.span, self._since = "init", time.monotonic() - (time.time() - self.began)
    self._seconds = dict.fromkeys(SPANS, 0.0)
    self.step = self._first = 0
    self._file: int | None = None
    self._lock = threading.Lock()  # the watchdog writes too, before it exits

  def start(self, step: int, **about: Any) -> None:
    """Opens the file and writes that a process begins at this step."""
    self.step = self._first = step
    if jax.process_index() == 0:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
      if before := read(self.path.parent):  # an earlier run of this very process
        overlap = max(before[-1]["time"] - self.began, 0.0)
        self.began, self._since = self.began + overlap, self._since + overlap
      size = os.fstat(self._file).st_size
      if size and os.pread(self._file, 1, size - 1) != b"\n":
        os.write(self._file, b"\n")  # or this line would be lost with a cut one
    self._line(event="start", began=self.began, step=step, **about)

  def stage(self, step: int, name: str) -> None:
    """Writes that a stage begins at a step, or goes on there after a start."""
    self._line(event="stage", step=step, stage=name)

  def enter(self, span: str) -> str:
    """What is done from now on; returns what was done so far."""
    before, now = self.span, time.monotonic()
    self._seconds[before] += now - self._since
    self.span, self._since = span, now
    return before

  @contextlib.contextmanager
  def within(self, span: str) -> Iterator[None]:
    """`enter`, and back to what was done before."""
    before = self.enter(span)
    try:
      yield
    finally:
      self.enter(before)

  def flush(self) -> None:
    """Writes what was spent since the last line."""
    self.enter(self.span)
    with self._lock:
      seconds = {k: round(v, 6) for k, v in self._seconds.items() if v > 0}
      self._seconds = dict.fromkeys(SPANS, 0.0)
      self._line(event="spans", first=self._first, end=self.step, seconds=seconds)
      self._first = self.step

  def stop(self, reason: str) -> None:
    """Writes the end of a process and closes the file."""
    self.flush()
    self._line(event="stop", step=self.step, reason=reason)
    if self._file is not None:
      os.close(self._file)
      self._file = None

  def _line(self, **content: Any) -> None:
    if self._file is not None:
      line = {"event": content.pop("event"), "time": round(time.time(), 6), **content}
      os.write(self._file, (json.dumps(line) + "\n").encode())


def process_began() -> float:
  """When this process started, by time.time(); the import of this file if unknown."""
  try:
    after_name = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2]
    ticks = int(after_name.split()[19])  # field 22, since boot
    up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    age = up - ticks / os.sysconf("SC_CLK_TCK")
  except (OSError, ValueError, IndexError):
    age = -1.0
  return time.time() - age if age >= 0 else _IMPORTED


_IMPORTED = time.time()


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of events.jsonl in order, without those that were cut."""
  path = pathlib.Path(workdir) / "events.jsonl"
  lines = []
  for text in path.read_bytes().splitlines() if path.exists() else []:
    with contextlib.suppress(ValueError):
      line = json.loads(text)
      if isinstance(line, dict) and {"event", "time"} <= set(line):
        lines.append(line)
  return lines


def account(lines: list[dict[str, Any]]) -> dict[str, Any]:
  """Adds up a run: every second in one bucket.

  A start at a step that lines of earlier processes reach beyond makes what they spent
  on later steps lost (of a line that straddles it, the share of its steps); what a
  killed process did after its last line counts as down.

  Returns:
    seconds: of each of SPANS, LOST and DOWN; wall_seconds, from the first start to the
    last line; steps kept; lost_steps; starts; goodput, the share of `step`.
  """
  seconds = dict.fromkeys([*SPANS, LOST, DOWN], 0.0)
  spans: list[dict[str, Any]] = []  # those kept so far, in order
  lost_steps, last = 0, None
  for line in lines:
    if line["event"] == "start":
      if last is not None:
        seconds[DOWN] += max(line["began"] - last, 0.0)
      lost_steps += _lose(spans, line["step"], seconds)
    elif line["event"] == "spans":
      spans.append({**line, "seconds": dict(line["seconds"])})
    last = line["time"]
  for line in spans:
    for name, spent in line["seconds"].items():
      seconds[name] = seconds.get(name, 0.0) + spent
  starts = [line for line in lines if line["event"] == "start"]
  wall = last - starts[0]["began"] if starts else 0.0
  return {
    "wall_seconds": wall,
    "seconds": seconds,
    "goodput": seconds["step"] / wall if wall > 0 else 0.0,
    "steps": max((line["end"] for line in spans), default=0),
    "lost_steps": lost_steps,
    "starts": len(starts),
  }


def _lose(spans: list[dict[str, Any]], step: int, seconds: dict[str, float]) -> int:
  """Moves what was spent on steps from `step` on to LOST; returns their number."""
  steps = 0
  for line in spans:
    done = line["end"] - max(line["first"], step)
    if done <= 0:
      continue
    share = done / (line["end"] - line["first"])
    for name in set(line["seconds"]) - {"init", "compile"}:  # spent once a process
      seconds[LOST] += share * line["seconds"][name]
      line["seconds"][name] *= 1 - share
    line["end"] = max(line["first"], step)
    steps += done
  return steps
