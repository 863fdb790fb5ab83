"""Which source each document of the stream comes from, and how weights change.

`Constant` gives the place of any document in closed form. `Scheduled` decides window by
window: the weights of a window are those in force at its first row, whole numbers of
documents follow them with an error below one document a source at any time, and inside
a window the documents of a source are spread evenly. Both are functions of the config
alone, of recorded weights (`mixture_history`) too where the losses decide, so that no
batch depends on where reading began.
"""

import collections
import dataclasses
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from unijax.config import Config, SourceConfig

UNIT = 1 << 32  # weights of a window are whole numbers that sum to this


class Constant:
  """Weights that never change.

  Args:
    weights: of each source, > 0.
  """

  def __init__(self, weights: Sequence[float]):
    shares = [w / sum(weights) for w in weights]
    scale = 100 / min(shares)
    # As grain.MapDataset.mix does, whose order of documents this is.
    self.parts = [int(share * scale) for share in shares]

  def begin(self, window: int, first_row: int) -> int:
    """Returns 0: there is nothing to decide."""
    del window, first_row
    return 0

  def locate(self, number: int) -> tuple[int, int]:
    """Returns (source, place in that source's own stream) of a document.

    Of n documents, floor(n (1 - share)) are left to the sources after the first, and so
    on; a document belongs to the source whose count it raises.
    """
    left, count, after = sum(self.parts), number, number + 1
    for source, part in enumerate(self.parts):
      rest, rest_after = count * (left - part) // left, after * (left - part) // left
      if count - rest != after - rest_after:
        return source, after - rest_after - 1
      left, count, after = left - part, rest, rest_after
    raise AssertionError("the last source takes what is left")


class Scheduled:
  """Weights that depend on the place in training.

  Args:
    weights: first row of a window -> weight of each source, not all zero.
    sources: number of sources.
    window: documents of a window.
  """

  def __init__(
    self, weights: Callable[[int], Sequence[float]], sources: int, window: int
  ):
    self.weights, self.window = weights, window
    self._credit = [0] * sources  # UNITs owed to each source
    self._taken = [(0,) * sources]  # documents of each source before each window
    self._marks = [0]
    self._orders: collections.OrderedDict[int, tuple] = collections.OrderedDict()

  def begin(self, window: int, first_row: int) -> int:
    """Decides a window, the next one in order; returns a fingerprint of all so far."""
    if window == len(self._taken) - 1:
      units = in_units(self.weights(first_row))
      due = [c + u * self.window for c, u in zip(self._credit, units, strict=True)]
      counts = allot(due, [u > 0 for u in units], self.window)
      self._credit = [d - n * UNIT for d, n in zip(due, counts, strict=True)]
      taken = tuple(t + n for t, n in zip(self._taken[-1], counts, strict=True))
      self._taken.append(taken)
      self._marks.append(zlib.crc32(repr(taken).encode(), self._marks[-1]))
    return self._marks[window + 1]

  def locate(self, number: int) -> tuple[int, int]:
    """Returns (source, place in that source's own stream) of a document.

    Raises IndexError for a window that was not begun: plan its rows first.
    """
    window, place = divmod(number, self.window)
    if window >= len(self._taken) - 1:
      raise IndexError(f"document {number}: window {window} is not planned yet")
    source, index = self._order(window)
    return int(source[place]), int(index[place])

  def _order(self, window: int) -> tuple[np.ndarray, np.ndarray]:
    if window not in self._orders:
      before, after = self._taken[window], self._taken[window + 1]
      counts = np.subtract(after, before)
      source = np.repeat(np.arange(len(counts)), counts)
      rank = np.arange(self.window) - np.repeat(np.cumsum(counts) - counts, counts)
      order = np.lexsort((source, (rank + 0.5) / counts[source]))
      source, rank = source[order], rank[order]
      self._orders[window] = source, rank + np.array(before)[source]
      while len(self._orders) > 4:
        self._orders.popitem(last=False)
    return self._orders[window]


def over_stages(config: Config) -> tuple[tuple[SourceConfig, ...], str, list[int]]:
  """Writes the weights of stages as schedules.

  Returns:
    (the sources; the kind of mixture, "step" where stages change weights; the first
    row of every stage whose weights are others than those of the stage before).
  """
  first, *later = [config.at(i).data.sources for i in range(len(config.starts))]
  starts, weights = config.starts[1:], [s.weight for s in first]
  schedules, breaks = [[] for _ in first], []
  for start, sources in zip(starts, later, strict=True):
    if [s.weight for s in sources] != weights:
      weights = [s.weight for s in sources]
      breaks.append(start * config.train.batch_size)
      for points, weight in zip(schedules, weights, strict=True):
        points.append((start, weight))
  if not breaks:
    return first, config.data.mixture, []
  entries = tuple(
    dataclasses.replace(s, schedule=tuple(points))
    if s.weight > 0 or any(weight > 0 for _, weight in points)
    else s  # read in no stage
    for s, points in zip(first, schedules, strict=True)
  )
  return entries, "step", breaks


def in_units(weights: Sequence[float]) -> list[int]:
  """Returns the shares of weights as whole numbers that sum to UNIT."""
  total = sum(weights)
  units = [round(w / total * UNIT) for w in weights]
  units[units.index(max(units))] += UNIT - sum(units)
  return units


def allot(due: Sequence[int], active: Sequence[bool], total: int) -> list[int]:
  """Returns how many of `total` documents each active source gets.

  Args:
    due: UNITs owed to each source, this window's weights included.
    active: sources with weight now; others get nothing, whatever they are owed.
    total: documents to give out.
  """
  counts = [max(0, d // UNIT) if a else 0 for d, a in zip(due, active, strict=True)]
  while (left := total - sum(counts)) != 0:
    owed = [d - n * UNIT for d, n in zip(due, counts, strict=True)]
    if left > 0:
      chosen = [i for i in range(len(owed)) if active[i]]
      counts[max(chosen, key=lambda i: owed[i])] += 1  # the first of equals
    else:
      chosen = [i for i in range(len(owed)) if counts[i]]
      counts[min(chosen, key=lambda i: owed[i])] -= 1
  return counts
