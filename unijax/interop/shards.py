"""Arrays that a release has in pieces, one in each of several files, joined when read.

A file of configs/released/ says what the files are called and how pieces are joined:

  SHARDS = ("weights.*.safetensors", (("*.wo.weight", 1), ("*norm.weight", "mean"), ..))

The first glob that fits a name decides: a number is the axis along which pieces follow
one another, in the order of the files' names.
"""

import dataclasses
import fnmatch
import pathlib
from collections.abc import Sequence

import numpy as np

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.safetensors import Entry, read_header

# Ways to join pieces of equal shape: copies that may have drifted apart, rows of a new
# first axis, copies of which one is enough.
COPIES = {
  "mean": lambda pieces: np.mean([x.astype(np.float32) for x in pieces], axis=0),
  "stack": np.stack,
  "first": lambda pieces: pieces[0],
}
Way = int | str


@dataclasses.dataclass(frozen=True)
class Joined:
  """One array in pieces, with what readers ask of a `safetensors.Entry`."""

  pieces: tuple[Entry, ...]
  way: Way

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the whole."""
    shape = self.pieces[0].shape
    if self.way == "stack":
      return (len(self.pieces), *shape)
    if isinstance(self.way, str):
      return shape
    total = sum(x.shape[self.way] for x in self.pieces)
    return (*shape[: self.way], total, *shape[self.way + 1 :])

  @property
  def dtype(self) -> np.dtype:
    """Of the whole."""
    return np.dtype(np.float32) if self.way == "mean" else self.pieces[0].dtype

  def read(self) -> np.ndarray:
    """The whole; as `Entry.read`."""
    pieces = [x.read() for x in self.pieces]
    if isinstance(self.way, str):
      return COPIES[self.way](pieces)
    return np.concatenate(pieces, axis=self.way)


def open_shards(
  folder: pathlib.Path, files: str, ways: Sequence[tuple[str, Way]]
) -> dict[str, Joined]:
  """Reads the headers of several files of pieces: name -> the whole.

  Args:
    folder: of the release.
    files: glob of their names.
    ways: (glob of names, how to join), as above.

  Returns:
    {} where there are not several.

  Raises:
    CheckpointError: they do not hold the same names, or pieces of shapes that go
      together; nothing says how to join one.
  """
  paths = sorted(folder.glob(files)) if files and folder.is_dir() else []
  if len(paths) < 2:
    return {}
  headers = [read_header(path) for path in paths]
  for path, header in zip(paths, headers, strict=True):
    if odd := sorted(set(header) ^ set(headers[0])):
      raise CheckpointError(
        f"{path} and {paths[0].name} hold pieces of the same arrays, but only one has "
        f"{odd[0]}: files are missing, or of different downloads"
      )
  return {name: _joined(name, [h[name] for h in headers], ways) for name in headers[0]}


def _joined(name: str, pieces: list[Entry], ways) -> Joined:
  way = next((way for glob, way in ways if fnmatch.fnmatchcase(name, glob)), None)
  if way is None:
    raise CheckpointError(
      f"{name}: nothing says how its {len(pieces)} pieces are joined"
    )
  kept = {tuple(n for i, n in enumerate(x.shape) if i != way) for x in pieces}
  ranks = {len(x.shape) for x in pieces}
  if len(kept) > 1 or len(ranks) > 1 or (isinstance(way, int) and way >= min(ranks)):
    shapes = ", ".join(str(list(x.shape)) for x in pieces)
    raise CheckpointError(f"{name}: pieces of {shapes} do not go together ({way!r})")
  return Joined(tuple(pieces), way)
