"""When to save, and what to keep. Knows nothing of files."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from unijax.config import CheckpointConfig

CLOCK_STEPS = 10  # several processes compare clocks once in so many steps


@dataclasses.dataclass
class Policy:
  """The rules of the `checkpoint` section.

  Attributes:
    options: the section.
    best: the best value of options.best_metric that was saved; None before.
    clock: seconds.
    always: steps that are saved and kept whatever the options say: ends of stages.
  """

  options: CheckpointConfig
  best: float | None = None
  clock: Callable[[], float] = time.monotonic
  always: frozenset[int] = frozenset()

  def __post_init__(self):
    self._last = self.clock()

  def due(self, step: int, metrics: Mapping[str, float]) -> bool:
    """Whether the state before this step is to be saved.

    Args:
      step: updates done.
      metrics: what was measured on this state; may be empty.
    """
    o = self.options
    by_step = o.every_steps > 0 and step % o.every_steps == 0
    value = metrics.get(o.best_metric)
    timely = by_step or step in self.always
    return timely or self._better(value) or self._time(step)

  def saved(self, metrics: Mapping[str, float]) -> None:
    """Remembers that a state with these metrics was saved just now."""
    self._last = self.clock()
    value = metrics.get(self.options.best_metric)
    if self._better(value):
      self.best = value

  def kept(self, steps: Mapping[int, Mapping[str, float]]) -> set[int]:
    """Which of the saved steps, each with its metrics, stay on disk."""
    o = self.options
    kept = set(sorted(steps)[-o.keep :]) | (self.always & set(steps))
    if o.keep_every_steps:
      kept |= {s for s in steps if s % o.keep_every_steps == 0}
    scored = [s for s in steps if o.best_metric in steps[s]]
    sign = 1 if o.best_mode == "min" else -1
    scored.sort(key=lambda s: (sign * steps[s][o.best_metric], -s))
    return kept | set(scored[: o.keep_best])

  def _better(self, value: float | None) -> bool:
    if value is None or not np.isfinite(value):
      return False
    if self.best is None:
      return True
    return value < self.best if self.options.best_mode == "min" else value > self.best

  def _time(self, step: int) -> bool:
    """Whether the minutes are up; the first process decides for all."""
    if not self.options.every_minutes:
      return False
    up = self.clock() - self._last >= 60 * self.options.every_minutes
    if jax.process_count() == 1:
      return up
    if step % CLOCK_STEPS:
      return False
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(up)))
