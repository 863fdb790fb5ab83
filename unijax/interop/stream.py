"""Numbers from files into leaves, and back: one leaf, or one array, at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.safetensors import Entry
from unijax.interop import matching
from unijax.interop.keymap import Piece, Table

CLOSE = 1e-6  # of tables that are computed rather than learned


def read(
  pieces: Mapping[str, Sequence[Piece]],
  theirs: Mapping[str, Entry],
  ours: Mapping[str, jax.ShapeDtypeStruct],
  say: Callable[[int, int, str], None] = lambda *_: None,
) -> Iterator[tuple[str, jax.Array]]:
  """Yields (path, array) of every leaf, in its dtype and where `ours` says it lies.

  On the host there is one leaf at a time, and of it what this process holds.

  Args:
    pieces: of `matching.match`.
    theirs: of `files.open_weights`.
    ours: path -> shape, dtype and, perhaps, sharding.
    say: is told (number, of how many, path).
  """
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  for number, (leaf, parts) in enumerate(pieces.items()):
    say(number, len(pieces), leaf)
    want = ours[leaf]

    def local(index, parts=parts, want=want):
      return _local(parts, theirs, want, index)

    sharding = getattr(want, "sharding", None) or here
    yield leaf, jax.make_array_from_callback(want.shape, sharding, local)


def _local(parts, theirs, want, index) -> np.ndarray:
  """The stretch `index` (a slice an axis) of a leaf."""
  ranges = [s.indices(n) for s, n in zip(index, want.shape, strict=True)]
  out = np.empty([stop - start for start, stop, _ in ranges], want.dtype)
  for part in parts:
    lead = ranges[: len(part.at)]
    if all(a <= i < b for i, (a, b, _) in zip(part.at, lead, strict=True)):
      place = tuple(i - a for i, (a, _, _) in zip(part.at, lead, strict=True))
      out[place] = into(part, theirs[part.name])[index[len(part.at) :]]
  return out


def into(piece: Piece, entry: Entry) -> np.ndarray:
  """A piece of a leaf from the array that holds it, in the file's dtype."""
  array = entry.read()
  if piece.rows is not None:
    array = array[piece.rows[0] : piece.rows[1]]
  return piece.op.into(array)


def check_dropped(
  table: Table, names: Sequence[str], theirs: Mapping[str, Entry]
) -> None:
  """Compares what is dropped with the formula it should follow.

  Raises:
    CheckpointError: it holds something else, which would be lost.
  """
  for name in names:
    formula = matching.formula_of(table, name)
    if formula is None:
      continue
    array = theirs[name].read().astype(np.float64)
    expected = np.asarray(formula(array.shape), np.float64)
    if expected.shape != array.shape or np.abs(expected - array).max(initial=0) > (
      CLOSE * max(1.0, np.abs(expected).max(initial=0))
    ):
      raise CheckpointError(
        f"{name} holds other numbers than those that the model computes in its place"
      )


def arrays(
  plan: Mapping[str, Sequence[Piece]], leaf: Callable[[str], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, array) of a published file.

  Args:
    plan: of `matching.plan`.
    leaf: returns a leaf of ours by its path; asked again for each of its pieces.
  """
  for name, pieces in plan.items():
    parts = [p.op.back(np.asarray(leaf(p.leaf))[p.at]) for p in pieces]
    yield name, parts[0] if len(parts) == 1 else np.concatenate(parts)
