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
      largest where it fills more than half of it.
  """
  start = 0
  encoded = [at for at, _ in layout.images if layout.feature[at] >= 0]
  while start < len(layout):
    later = [at for at in encoded if at >= start][1:]
    size = sizes[-1] if 2 * (len(layout) - start) > sizes[-1] else sizes[0]
    stop = min(start + size, len(layout), *later[:1])
    while stop < len(layout) and -1 != layout.span[stop] == layout.span[stop - 1]:
      stop -= 1
    yield layout.part(start, stop)
    start = stop


def padded(parts: Sequence[Layout | None], sizes: Sequence[int]) -> int:
  """The least size that all parts have room in."""
  longest = max(len(part) for part in parts if part is not None)
  return next(size for size in sizes if size >= longest)
