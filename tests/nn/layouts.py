"""Rows for tests of attention: the hard ones by name, and random ones."""

import numpy as np

from unijax.nn import masks

T = 384  # positions: three blocks of 128 in a kernel
LONGEST = 200  # positions of the longest image: longer than a block

# Parts of a row, in order: a letter and its positions. t text, i image; a capital begins
# a document. What is left of the row is padding.
HARD = {
  "adjacent images": [("T", 5), ("i", 16), ("i", 16), ("i", 100), ("I", 30), ("I", 40)],
  "image at the row's end": [("T", 300), ("i", 84)],
  "all padding": [],
  "one-token documents": [("T", 1)] * 130 + [("I", 1)] * 120,
  "image longer than a block": [("T", 90), ("i", LONGEST), ("t", 20), ("I", 50)],
}


def row(parts):
  """Returns (span, segment), int32 [T]."""
  span, segment = np.full(T, -1, np.int32), np.zeros(T, np.int32)
  at = image = document = 0
  for kind, length in parts:
    stop = min(at + length, T)
    document += kind.isupper() or document == 0
    segment[at:stop] = document
    if kind.lower() == "i":
      span[at:stop] = image
      image += 1
    at = stop
  return span, segment


def random_parts(rng):
  """Documents of text and images of all lengths, up to a random end."""
  parts, left = [], int(rng.integers(1, T + 1))
  while left > 0:
    kind = rng.choice(list("ttiiTI"))
    length = int(min(left, rng.integers(1, 1 + rng.choice([4, 40, LONGEST]))))
    parts.append((kind, length))
    left -= length
  return parts


def intervals(count: int, image_mask: str = "bidirectional"):
  """Returns (start, end), int32 [count, T]: the hard rows, then random ones."""
  rng = np.random.default_rng(0)
  parts = [*HARD.values()]
  parts += [random_parts(rng) for _ in range(count - len(parts))]
  span, segment = (np.stack(x) for x in zip(*map(row, parts[:count]), strict=True))
  return tuple(np.asarray(x) for x in masks.intervals(span, segment, image_mask))
