"""Metric files: JSON lines and TensorBoard events, written one step late; trackers.

`metrics.jsonl` has one object a line with `step`; resuming cuts it back to the step
resumed from, so that no step is in it twice.
"""

import json
import math
import pathlib
from typing import Any

import numpy as np

from unijax.train.tracking import Trackers
from unijax.write.losses import NOISE_LEVELS


def to_scalars(metrics) -> dict[str, float]:
  """Computes clu metrics to floats; a vector becomes one number a noise level.

  Levels (and losses) that nothing was weighted in are left out.
  """
  scalars = {}
  for name, average in metrics.items():
    total, count = np.asarray(average.total), np.asarray(average.count)
    if total.ndim > 1:
      continue  # statistics that a task is updated from, not for a reader
    if total.ndim == 0:
      if count > 0:
        scalars[name] = float(total / count)
      continue
    for level in range(NOISE_LEVELS):
      if count[level] > 0:
        low = level / NOISE_LEVELS
        scalars[f"{name}/{low:.1f}"] = float(total[level] / count[level])
  return scalars


class MetricWriter:
  """Writes scalars and images of a run.

  Args:
    workdir: the run directory.
    step: the step resumed from; later lines of an earlier attempt are cut off.
    silent: write no files, for all but the first process of a run.
    trackers: that get the same; None for no such.
  """

  def __init__(
    self, workdir: pathlib.Path, step: int, silent: bool = False,
    trackers: Trackers | None = None,
  ):  # fmt: skip
    self._trackers = trackers
    self._latest: tuple[int, dict[str, float]] = (-1, {})
    self.board = self.file = None
    if silent:
      return
    from tensorboardX import SummaryWriter

    self.path = workdir / "metrics.jsonl"
    lines = []
    if self.path.exists():
      lines = [x for x in self.path.read_text().splitlines() if _step(x) < step]
    self.path.write_text("".join(f"{x}\n" for x in lines))
    self.file = self.path.open("a", buffering=1)
    self.board = SummaryWriter(
      str(workdir / "tensorboard"), purge_step=step if step else None
    )

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, error, *_) -> None:
    self.close(done=error is None)

  def scalars(self, step: int, values: dict[str, float], prefix: str) -> None:
    """Writes `prefix/name: value` at a step; non-finite values become null in JSON."""
    named = {f"{prefix}/{k}": v for k, v in values.items()}
    self._latest = (step, {**self.at(step), **named})
    if self.file is None:
      return
    finite = {k: v if math.isfinite(v) else None for k, v in named.items()}
    self.file.write(json.dumps({"step": step, **finite}) + "\n")
    for name, value in named.items():
      self.board.add_scalar(name, value, step)
    if self._trackers:
      self._trackers.write_scalars(step, named)

  def at(self, step: int) -> dict[str, float]:
    """Returns what was written at a step, if nothing was written at another since."""
    return dict(self._latest[1]) if self._latest[0] == step else {}

  def image(self, step: int, name: str, pixels: np.ndarray) -> None:
    """Writes a uint8 [h, w, 3] picture to TensorBoard."""
    if self.board is not None:
      self.board.add_image(name, pixels, step, dataformats="HWC")
    if self._trackers:
      self._trackers.write_images(step, {name: pixels})

  def close(self, done: bool = True) -> None:
    """Flushes and closes all; `done` says whether training is."""
    for file in (self.file, self.board):
      if file is not None:
        file.close()
    if self._trackers:
      self._trackers.close(done)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl as dicts, without an incomplete last one."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  if not path.exists():
    return []
  return [json.loads(x) for x in path.read_text().splitlines() if _step(x) >= 0]


def _step(line: str) -> int:
  try:
    return json.loads(line)["step"]
  except (json.JSONDecodeError, KeyError, TypeError):
    return -1
