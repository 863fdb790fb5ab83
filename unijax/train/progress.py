"""What a person sees while a run trains: one line, rewritten on a terminal."""

import sys
import time
from collections.abc import Sequence

LOSSES = (("text", "text_nll"), ("image", "image_mse"), ("image", "image_nll"))


class Progress:
  """Rates and an estimate of the time left, from the clock of this process.

  Args:
    total: steps of the whole run.
    start: step this process began at.
    stream: where lines go; on a terminal the line is rewritten in place.
    silent: print nothing, for all but the first process of a run.
    shown: (label, metric) of those that the line shows.
  """

  def __init__(
    self,
    total: int,
    start: int,
    stream=None,
    silent: bool = False,
    shown: Sequence[tuple[str, str]] = LOSSES,
  ):
    self.shown = shown
    self.total, self.start, self.silent = total, start, silent
    self.stream = stream or sys.stderr
    self.live = self.stream.isatty()
    self.began = self.last = time.monotonic()
    self.last_step, self.waited = start, 0.0

  def wait(self, seconds: float) -> None:
    """Adds time that the loop spent waiting for data."""
    self.waited += seconds

  def report(self, step: int, scalars: dict[str, float]) -> dict[str, float]:
    """Prints the line for `step` and returns the rates since the last report."""
    now = time.monotonic()
    steps, seconds = max(step - self.last_step, 1), max(now - self.last, 1e-9)
    rates = {
      "steps_per_second": steps / seconds,
      "tokens_per_second": steps * scalars.get("tokens", 0.0) / seconds,
      "data_wait_share": self.waited / seconds,
    }
    left = (self.total - step) * seconds / steps
    losses = "  ".join(
      f"{label} {scalars[name]:.4f}" for label, name in self.shown if name in scalars
    )
    self.say(
      f"step {step}/{self.total}  {losses}  {rates['tokens_per_second']:,.0f} tokens/s"
      f"  data wait {rates['data_wait_share']:.0%}  ETA {duration(left)}",
      end="\r" if self.live else "\n",
    )
    self.last, self.last_step, self.waited = now, step, 0.0
    return rates

  def say(self, text: str, end: str = "\n") -> None:
    """Prints a line, clearing what a rewritten one left behind."""
    if self.silent:
      return
    self.stream.write((f"\r\x1b[K{text}" if self.live else text) + end)
    self.stream.flush()


def duration(seconds: float) -> str:
  """Returns '42s', '3m10s' or '2h05m'."""
  seconds = int(max(seconds, 0))
  if seconds < 60:
    return f"{seconds}s"
  if seconds < 3600:
    return f"{seconds // 60}m{seconds % 60:02d}s"
  return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
