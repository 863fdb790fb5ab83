"""A table of keys: which leaf of ours is which weight of a published file.

A system is a tuple of `Key`s. From the names and shapes on both sides alone, `matching`
works out which part of which leaf is which array of the file, and a report of all that
is dropped, unknown, missing or misfits. Reading (`stream.read`) and writing back
(`stream.arrays`) follow the same pieces in opposite directions.

  Key("transformer/blocks/attention/q/kernel",
      "<text>layers.{i}.self_attn.q_proj.weight", LINEAR)

A gap that stands in `theirs` only numbers the first axis of a leaf whose layers are
stacked (two such gaps the first two axes, in the order of the first name); one that
stands in both tells leaves apart: Key("decoder/up{i}_{b}/..", "up.{i}.block.{b}..").
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unijax.checkpoint.fits import shown
from unijax.interop.ops import COPY, Op

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Key:
  """One line of a table.

  Attributes:
    ours: path of a leaf of our parameters, slashes between, perhaps with gaps.
    theirs: the name in the file; of several, whichever is there is read and the first
      is written. One may be (name, op) where its numbers lie otherwise.
    op: what happens to the numbers.
  """

  ours: str
  theirs: str | tuple[str | tuple[str, Op], ...]
  op: Op = COPY

  @property
  def ways(self) -> tuple[tuple[str, Op], ...]:
    """All templates of theirs, each with its operation."""
    several = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
    return tuple((x, self.op) if isinstance(x, str) else x for x in several)


@dataclasses.dataclass(frozen=True)
class Drop:
  """Arrays of a file that nothing of ours needs.

  Attributes:
    theirs: their name; `{i}` is any number and `*` is any text.
    formula: (shape, dtype) -> what they must hold; None: anything.
  """

  theirs: str
  formula: Callable[[Shape], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Piece:
  """A part of a leaf of ours, which is an array of theirs, or a part of that.

  Attributes:
    leaf: path of ours.
    at: numbers of the leaf's first axes; () is all of it.
    name: of theirs.
    rows: of the first axis of theirs; None is all.
    op: between the two.
  """

  leaf: str
  at: tuple[int, ...]
  name: str
  rows: tuple[int, int] | None
  op: Op


@dataclasses.dataclass
class Report:
  """What matching found, in words, one line each."""

  consumed: list[str] = dataclasses.field(default_factory=list)
  dropped: list[str] = dataclasses.field(default_factory=list)
  unknown: list[str] = dataclasses.field(default_factory=list)
  missing: list[str] = dataclasses.field(default_factory=list)
  misfit: list[str] = dataclasses.field(default_factory=list)

  @property
  def fits(self) -> bool:
    """Whether every array has its place and every leaf its numbers."""
    return not (self.unknown or self.missing or self.misfit)

  def text(self, most: int = 24) -> str:
    """All of it for a person: counts, then what is wrong."""
    counts = ", ".join(f"{len(v)} {k}" for k, v in dataclasses.asdict(self).items())
    parts = [
      f"\n{kind}:{shown(getattr(self, kind), most)}"
      for kind in ("missing", "misfit", "unknown")
      if getattr(self, kind)
    ]
    return counts + "".join(parts)


@dataclasses.dataclass(frozen=True)
class Match:
  """The outcome of `matching.match`: pieces by leaf, and what was found on the way."""

  pieces: Mapping[str, Sequence[Piece]]
  report: Report


@dataclasses.dataclass(frozen=True)
class Table:
  """All keys of a system.

  Attributes:
    keys: of all leaves.
    prefixes: by group, what may stand for it; one for a whole file, the first is
      written.
    drops: what a file may hold besides.
  """

  keys: Sequence[Key]
  prefixes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
  drops: Sequence[Drop] = ()
