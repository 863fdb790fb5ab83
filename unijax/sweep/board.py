"""What a person sees while many runs train: all of them in one place.

On a terminal a block of lines is rewritten, one line a run; elsewhere plain lines come
now and then. What is shown is read from the files of the runs.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

TAIL = 8192  # bytes at the end of metrics.jsonl that are read


class Shown(Protocol):
  """A run that goes on."""

  name: str
  workdir: str
  attempts: int
  began: float  # by time.monotonic()


class Board:
  """Lines that stay, above those of the runs that go on.

  Args:
    stream: where lines go; stderr by default.
    every: seconds between plain lines about runs that go on.
  """

  def __init__(self, stream=None, every: float = 60.0):
    self.stream = stream or sys.stderr
    self.live = self.stream.isatty()
    self.every, self._due = every, time.monotonic() + every
    self._lines = 0  # of the block that stands there now
    self._totals: dict[str, int] = {}

  def say(self, text: str) -> None:
    """Prints a line that stays."""
    self._erase()
    self.stream.write(text + "\n")
    self.stream.flush()

  def show(self, running: Sequence[Shown], summary: str) -> None:
    """Shows the runs that go on; elsewhere than on a terminal only now and then."""
    if not self.live:
      if time.monotonic() < self._due or not running:
        return
      self._due = time.monotonic() + self.every
      lines = [summary, *(f"  {self.line(run)}" for run in running)]
      self.stream.write("\n".join(lines) + "\n")
    else:
      size = os.get_terminal_size(self.stream.fileno())
      width, height = size.columns or 80, size.lines or 24  # 0 is unknown
      lines = [self.line(run) for run in running]
      room = max(height - 3, 1)
      if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more"]
      lines = [line[: width - 1] for line in (*lines, summary)]
      self._erase()
      self.stream.write("\n".join(lines) + "\n")
      self._lines = len(lines)
    self.stream.flush()

  def line(self, run: Shown) -> str:
    """'lr=0.1  step 40/200  loss 1.2345  3.2 steps/s  ETA 50s'."""
    found = reading(run.workdir)
    parts = [run.name] + ([f"attempt {run.attempts}"] if run.attempts > 1 else [])
    if "step" not in found:
      return "  ".join([*parts, f"starting, {clock(time.monotonic() - run.began)}"])
    step, total = found["step"] + 1, self._total(run.workdir)
    # What is measured after the last step stands at its number, one beyond.
    parts.append(f"step {min(step, total)}/{total}" if total else f"step {step}")
    if isinstance(loss := found.get("train/loss"), int | float):
      parts.append(f"loss {loss:.4f}")
    if isinstance(rate := found.get("train/steps_per_second"), int | float) and rate:
      parts.append(f"{rate:.3g} steps/s")
      if total:
        parts.append(f"ETA {clock(max(total - step, 0) / rate)}")
    return "  ".join(parts)

  def close(self) -> None:
    """Takes the block away; the lines that stay are left."""
    self._erase()
    self.stream.flush()

  def _erase(self) -> None:
    if self._lines:
      self.stream.write(f"\x1b[{self._lines}F\x1b[J")
      self._lines = 0

  def _total(self, workdir: str) -> int:
    """Steps of a run, once its config.json is there; 0 before."""
    if workdir not in self._totals:
      try:
        content = json.loads((pathlib.Path(workdir) / "config.json").read_text())
        self._totals[workdir] = content["config"]["train"]["steps"]
      except (OSError, ValueError, KeyError, TypeError):
        return 0
    return self._totals[workdir]


def reading(workdir: str | pathlib.Path) -> dict[str, Any]:
  """The newest value of everything near the end of metrics.jsonl; {} without one."""
  try:
    with (pathlib.Path(workdir) / "metrics.jsonl").open("rb") as file:
      file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
      lines = file.read().decode(errors="replace").splitlines()
  except OSError:
    return {}
  found: dict[str, Any] = {}
  for line in lines:  # the first may begin in its middle, the last may lack its end
    try:
      found.update(json.loads(line))
    except (ValueError, TypeError):
      continue
  return found


def clock(seconds: float) -> str:
  """'42s', '3m10s', '2h05m'."""
  whole = int(seconds)
  if whole < 60:
    return f"{whole}s"
  if whole < 3600:
    return f"{whole // 60}m{whole % 60:02d}s"
  return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
