"""Train and held-out parts of a data set: decided by an item's own name, by hashing.

An item stays on its side when others are added or removed, and on every machine.
"""

from unijax.data import hashing
from unijax.data.document import DataError

SPLITS = ("train", "held_out", "all")


def check(split: str, held_out: float) -> None:
  """Raises DataError unless `split` is known and `held_out` is a share below 1."""
  if split not in SPLITS:
    raise DataError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
  if not 0 <= held_out < 1:
    raise DataError(f"held_out must be in [0, 1), got {held_out}")


def contains(split: str, held_out: float, *name: int | str) -> bool:
  """Says whether the item of this name belongs to the split."""
  if split == "all":
    return True
  return (hashing.uniform("split", *name) < held_out) == (split == "held_out")
