"""One prompt on its way: its phase, and what of it is committed."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from unijax.data.layout import Layout

TEXT, IMAGE, DONE = "text", "image", "done"
BLIND = 2  # the track without pictures; 1 is the one without text


@dataclasses.dataclass
class Row:
  """One prompt on its way."""

  # what is committed: all, and what guidance contrasts with (`tracks`)
  tracks: list[Layout]
  phase: str
  seed: int
  images_left: int
  tokens_left: int
  one_image: bool
  thinks: bool = False  # writes first, and draws where that ends
  parts: list[str | np.ndarray] = dataclasses.field(default_factory=list)
  tokens: list[int] = dataclasses.field(default_factory=list)
  text_ids: list[int] = dataclasses.field(default_factory=list)  # since the last image
  finished: bool = False
  said: list[int] = dataclasses.field(default_factory=list)  # likewise, all ids but BOI
  given: list[int] = dataclasses.field(default_factory=list)  # of a block; uncommitted


def chunks(layout: Layout, sizes: Sequence[int]) -> Iterator[Layout]:
  """Cuts a layout into parts, never through an image or a block of text. A part has at
  most one image that an encoder reads.

  Args:
    layout: to cut.
    sizes: positions that parts may have, the least first; what is left is of the
      largest of which it fills more than half, or of a larger one that holds the image
      that begins there.
  """
  start = 0
  while start < len(layout):
    filled = sum(2 * (len(layout) - start) > size for size in sizes)
    stops = (_stop(layout, start, size) for size in sizes[max(filled - 1, 0) :])
    stop = next(stop for stop in stops if stop > start)
    yield layout.part(start, stop)
    start = stop


def _stop(layout: Layout, start: int, size: int) -> int:
  """Where a part of at most `size` positions ends; `start`, if nothing whole fits."""
  encoded = [at for at, _ in layout.images if at >= start and layout.feature[at] >= 0]
  stop = min(start + size, len(layout), *encoded[1:2])
  while start < stop < len(layout) and -1 != layout.span[stop] == layout.span[stop - 1]:
    stop -= 1
  return stop


def padded(parts: Sequence[Layout | None], sizes: Sequence[int]) -> int:
  """The least size that all parts have room in."""
  longest = max(len(part) for part in parts if part is not None)
  return next(size for size in sizes if size >= longest)
