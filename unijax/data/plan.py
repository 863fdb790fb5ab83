"""Which documents share a row: a pure function of the lengths of a window.

The document stream is cut into windows of `data.window` documents; each window is
packed by itself, so row r needs only the windows up to its own, and the position in
the data is one number.
"""

import bisect
from collections.abc import Callable, Sequence

from unijax.data import hashing


def pack(lengths: Sequence[int], images: Sequence[int], capacity: int, most: int):
  """Best-fit-decreasing packing.

  Args:
    lengths: positions of each document, all <= capacity.
    images: images of each document.
    capacity: positions of a row.
    most: largest number of images in a row.

  Returns:
    Rows as lists of document numbers; every document stands in exactly one row.
  """
  order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
  open_rows: list[tuple[int, int]] = []  # (space left, row), sorted
  rows: list[list[int]] = []
  counts: list[int] = []
  for i in order:
    at = bisect.bisect_left(open_rows, (lengths[i], -1))
    while at < len(open_rows) and counts[open_rows[at][1]] + images[i] > most:
      at += 1
    if at == len(open_rows):
      space, row = capacity, len(rows)
      rows.append([])
      counts.append(0)
    else:
      space, row = open_rows.pop(at)
    rows[row].append(i)
    counts[row] += images[i]
    bisect.insort(open_rows, (space - lengths[i], row))
  return rows


class Plan:
  """Random access from row number to documents, window by window.

  Args:
    measure: document number -> (positions, images), a pure function.
    window: documents packed together.
    capacity, most: positions and images that a row holds.
    seed: shuffles the rows of a window.
  """

  def __init__(
    self,
    measure: Callable[[int], tuple[int, int]],
    window: int,
    capacity: int,
    most: int,
    seed: int,
  ):
    self.measure, self.window = measure, window
    self.capacity, self.most, self.seed = capacity, most, seed
    self._starts = [0]  # first row of each planned window, and of the next
    self._rows: dict[int, list[list[int]]] = {}
    self.padding = 0.0  # share of empty positions in the last planned window

  def documents(self, row: int) -> list[int]:
    """Returns the document numbers of a row, in order of their place in it."""
    while self._starts[-1] <= row:
      self._plan(len(self._starts) - 1)
    window = bisect.bisect_right(self._starts, row) - 1
    if window not in self._rows:
      self._plan(window)
    return self._rows[window][row - self._starts[window]]

  def _plan(self, number: int) -> None:
    first = number * self.window
    sizes = [self.measure(first + i) for i in range(self.window)]
    rows = pack(*zip(*sizes, strict=True), self.capacity, self.most)
    rows.sort(key=lambda r: hashing.stable_hash([self.seed, number, r[0]]))
    used = sum(length for length, _ in sizes)
    self.padding = 1.0 - used / (len(rows) * self.capacity)
    self._rows[number] = [[first + i for i in row] for row in rows]
    self._rows = {k: v for k, v in self._rows.items() if k > number - 3}  # bounded
    if number == len(self._starts) - 1:
      self._starts.append(self._starts[-1] + len(rows))
