"""Which documents share a row: a pure function of the lengths of a window.

The document stream is cut into windows of `data.window` documents; each window is
packed by itself, so row r needs only its own window and the number of rows before it,
and the position in the data is one number. Rows of a window times documents of a window
vary: the rows of every planned window are kept (`Windows`), and `plan_cache` keeps them
on disk, so that going on at a far row measures one window and not all before it.

A window ends early where it would reach over a break, a row at which the documents are
to come from elsewhere: its rows from there on are passed over, with their documents.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence

from unijax.data import hashing
from unijax.data.document import DataError

VERSION = 1  # raise it with any change that alters which documents share a row
KEPT = 3  # planned windows whose rows stay in memory


def pack(lengths: Sequence[int], images: Sequence[int], capacity: int, most: int):
  """Best-fit-decreasing packing.

  Args:
    lengths: positions of each document, in [1, capacity].
    images: images of each document, in [0, most].
    capacity: positions of a row.
    most: largest number of images in a row.

  Returns:
    Rows as lists of document numbers; every document stands in exactly one row.

  Raises:
    DataError: a size out of range, or not as many lengths as images.
  """
  _check_sizes(lengths, images, capacity, most)
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


def _check_sizes(lengths, images, capacity: int, most: int) -> None:
  if len(lengths) != len(images):
    raise DataError(f"pack: {len(lengths)} lengths, but {len(images)} image counts")
  for name, sizes, low, high in (
    ("positions", lengths, 1, capacity),
    ("images", images, 0, most),
  ):
    for i, size in enumerate(sizes):
      if type(size) is not int or not low <= size <= high:
        raise DataError(
          f"pack: document {i} has {size!r} {name}, expected a whole number in "
          f"[{low}, {high}]"
        )


@dataclasses.dataclass
class Windows:
  """What is kept of every planned window, in order. Lists of equal length.

  Attributes:
    rows: number of rows.
    used: positions that documents fill.
    marks: fingerprint of the mixture up to and with this window.
  """

  rows: list[int] = dataclasses.field(default_factory=list)
  used: list[int] = dataclasses.field(default_factory=list)
  marks: list[int] = dataclasses.field(default_factory=list)

  def __len__(self):
    return len(self.rows)


@dataclasses.dataclass(frozen=True)
class _Window:
  rows: list[list[int]]  # numbers of documents
  sizes: list[tuple[int, int]]  # of the window's documents in order


class Plan:
  """Random access from row number to documents, window by window.

  Args:
    measure: document number -> (positions, images), a pure function.
    window: documents packed together.
    capacity, most: positions and images that a row holds.
    seed: shuffles the rows of a window.
    begin: called once for each window in order, before its documents are measured,
      with its number and first row, and again after a failure; returns a
      fingerprint of what it decided.
    progress: called with (rows planned, row asked for) after each window.
    breaks: rows, in order, that begin a window.

  Attributes:
    windows: what is known of each planned window.
  """

  def __init__(
    self,
    measure: Callable[[int], tuple[int, int]],
    window: int,
    capacity: int,
    most: int,
    seed: int,
    begin: Callable[[int, int], int] = lambda number, first_row: 0,
    progress: Callable[[int, int], None] = lambda planned, row: None,
    breaks: Sequence[int] = (),
  ):
    self.measure, self.window = measure, window
    self.capacity, self.most, self.seed = capacity, most, seed
    self.begin, self.progress, self.breaks = begin, progress, breaks
    self.windows = Windows()
    self._starts = [0]  # first row of each planned window, and of the next
    self._used = [0]  # filled positions before each planned window, and the next
    self._kept: dict[int, _Window] = {}
    self._origin = "no file"

  def restore(self, known: Windows, origin: str) -> int:
    """Takes windows that were planned before; returns how many of them hold here.

    A window holds if the mixture begins it as it did then; the later ones fall with it.
    Call it before any row is asked for.

    Args:
      known: windows from 0 on.
      origin: the file they were read from, for messages.
    """
    self._origin = origin
    for rows, used, mark in zip(known.rows, known.used, known.marks, strict=True):
      if self.begin(len(self.windows), self._starts[-1]) != mark:
        break
      self._append(rows, used, mark)
    return len(self.windows)

  def documents(self, row: int) -> list[int]:
    """Returns the document numbers of a row, in order of their place in it."""
    window, place = self._find(row)
    return window.rows[place]

  def sizes(self, row: int) -> list[tuple[int, int]]:
    """Returns (positions, images) of the documents of a row."""
    window, place = self._find(row)
    return [window.sizes[number % self.window] for number in window.rows[place]]

  @property
  def planned(self) -> int:
    """Rows of all planned windows: the first row of the next one."""
    return self._starts[-1]

  @property
  def last_start(self) -> int:
    """First row of the last window that was begun, -1 before the first."""
    return self._starts[-2] if len(self._starts) > 1 else -1

  @property
  def padding(self) -> float:
    """Share of empty positions in all planned windows."""
    return self._share(len(self.windows))

  def padding_until(self, row: int) -> float:
    """Share of empty positions in the windows up to that of `row`.

    A function of the row alone: later windows that are planned already do not count.
    Raises IndexError for a row that is not planned. Needs no lock.
    """
    if row >= self.planned:
      raise IndexError(f"row {row} is not planned yet")
    return self._share(bisect.bisect_right(self._starts, row))

  def _share(self, windows: int) -> float:
    positions = self._starts[windows] * self.capacity
    return 1.0 - self._used[windows] / positions if positions else 0.0

  def reach(self, row: int) -> None:
    """Plans windows up to that of a row."""
    while self._starts[-1] <= row:
      self._plan(len(self.windows))
      self.progress(self._starts[-1], row)

  def _find(self, row: int) -> tuple[_Window, int]:
    self.reach(row)
    number = bisect.bisect_right(self._starts, row) - 1
    if number not in self._kept:
      self._plan(number)
    return self._kept[number], row - self._starts[number]

  def _plan(self, number: int) -> None:
    new = number == len(self.windows)
    mark = self.begin(number, self._starts[-1]) if new else self.windows.marks[number]
    first = number * self.window
    sizes = [self.measure(first + i) for i in range(self.window)]
    rows = pack(*zip(*sizes, strict=True), self.capacity, self.most)
    rows.sort(key=lambda r: hashing.stable_hash([self.seed, number, r[0]]))
    rows = rows[: self._room(self._starts[number])]
    used = sum(sizes[i][0] for row in rows for i in row)
    if new:
      self._append(len(rows), used, mark)
    elif (self.windows.rows[number], self.windows.used[number]) != (len(rows), used):
      raise DataError(
        f"plan: window {number} had {self.windows.rows[number]} rows and "
        f"{self.windows.used[number]} positions (from {self._origin}), now its "
        f"documents make {len(rows)} rows and {used}: the data of a source has "
        "changed; bring it back, or start a new run"
      )
    rows = [[first + i for i in row] for row in rows]
    self._kept[number] = _Window(rows, sizes)
    while len(self._kept) > KEPT:
      del self._kept[next(iter(self._kept))]  # the one planned first

  def _room(self, start: int) -> int | None:
    """Rows from here to the next break; None without one."""
    return next((b - start for b in self.breaks if b > start), None)

  def _append(self, rows: int, used: int, mark: int) -> None:
    self.windows.rows.append(rows)
    self.windows.used.append(used)
    self.windows.marks.append(mark)
    self._used.append(self._used[-1] + used)  # before the starts, which are read first
    self._starts.append(self._starts[-1] + rows)
