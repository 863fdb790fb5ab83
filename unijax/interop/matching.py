"""From a table of keys and the forms on both sides to pieces: what is where.

Only names, shapes and dtypes are looked at; no number is read.
"""

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.fits import form, shown
from unijax.interop import templates
from unijax.interop.keymap import Drop, Key, Match, Piece, Report, Shape, Table
from unijax.interop.ops import Op, Part


@dataclasses.dataclass(frozen=True)
class _Wish:
  """A piece whose name is still to be found: one of its key's, with gaps filled."""

  key: Key
  leaf: str
  at: tuple[int, ...]
  shape: Shape  # of the piece of ours
  values: Mapping[str, int]
  counts: Mapping[str, int]

  def named(self, prefixes: Mapping[str, str]) -> dict[str, Op]:
    """Names that the file may have for it, and what each does to the numbers."""
    fill = templates.fill
    return {
      fill(template, self.values, self.counts, prefixes): op
      for template, op in self.key.ways
    }

  def __str__(self):
    return f"{self.leaf}{list(self.at)}" if self.at else self.leaf


@dataclasses.dataclass(frozen=True)
class _Hit:
  """A wish whose name was found."""

  wish: _Wish
  name: str
  op: Op

  @property
  def shapes(self) -> list[Shape]:
    """What the file may have for it."""
    return self.op.shapes(self.wish.shape)


def match(table: Table, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Match:
  """Finds which part of which leaf each array of a file is.

  Args:
    table: of the system.
    ours: path -> anything with shape and dtype; every leaf of the parameters.
    theirs: name -> anything with shape and dtype, as `files.open_weights` returns.

  Raises:
    CheckpointError: the table itself is wrong; what is wrong with the file stands in
      the report.
  """
  wishes, bare = _wishes(table, ours)
  prefixes = _choose(table, wishes, theirs)
  report = Report(missing=[f"{leaf}: no key of the table fills it" for leaf in bare])
  hits = []
  for wish in wishes:
    names = wish.named(prefixes)
    there = [n for n in names if n in theirs]
    if not there:
      report.missing.append(f"{' or '.join(names)}: for {wish}")
    elif len(there) > 1:
      report.misfit.append(f"{' and '.join(there)}: both are there for {wish}")
    else:
      hits.append(_Hit(wish, there[0], names[there[0]]))
  pieces = _pieces(hits, ours, theirs, report)
  used = {hit.name for hit in hits}
  report.consumed = sorted(used)
  rest = [name for name in theirs if name not in used]
  for name in sorted(rest):
    known = any(_dropped(drop, prefixes).fullmatch(name) for drop in table.drops)
    (report.dropped if known else report.unknown).append(name)
  return Match(pieces, report)


def plan(table: Table, ours: Mapping[str, Any]) -> dict[str, list[Piece]]:
  """Which arrays a file of these leaves has: name -> its pieces, in order of rows.

  Raises:
    CheckpointError: a leaf has no key.
  """
  wishes, bare = _wishes(table, ours)
  if bare:
    raise CheckpointError(
      f"{len(bare)} parameters have no name in this system's files:{shown(bare)}"
    )
  first = {group: options[0] for group, options in table.prefixes.items()}
  hits = [_Hit(wish, *next(iter(wish.named(first).items()))) for wish in wishes]
  for hit in hits:
    if not hit.shapes:
      raise CheckpointError(
        f"{hit.name} cannot be {hit.op} of {hit.wish}, whose shape is {hit.wish.shape}"
      )
  return {name: list(_cut(part)) for name, part in _by_name(hits).items()}


def formula_of(table: Table, name: str) -> Callable | None:
  """What a dropped array must hold, where the table says so."""
  for drop in table.drops:
    for chosen in _each_choice(table):
      if drop.formula is not None and _dropped(drop, chosen).fullmatch(name):
        return drop.formula
  return None


def _each_choice(table: Table):
  groups = list(table.prefixes)
  for chosen in itertools.product(*table.prefixes.values()):
    yield dict(zip(groups, chosen, strict=True))


def _dropped(drop: Drop, prefixes: Mapping[str, str]):
  text = templates.GROUP.sub(lambda m: prefixes[m[1]], drop.theirs)
  text = templates.GAP.sub("\0", text)
  return re.compile(re.escape(text).replace("\0", r"\d+").replace(r"\*", ".*"))


def _wishes(table: Table, ours: Mapping[str, Any]) -> tuple[list[_Wish], list[str]]:
  """Every piece of every leaf, and the leaves that have no key."""
  rows, filled = [], {}
  for key in table.keys:
    inside = templates.gaps(key.ours)
    stacked = [g for g in templates.gaps(key.ways[0][0]) if g not in inside]
    pattern = templates.matcher(key.ours)
    for leaf, array in ours.items():
      found = pattern.fullmatch(leaf)
      if not found:
        continue
      if leaf in filled:
        raise CheckpointError(f"{leaf} has two keys: {filled[leaf]} and {key.ours}")
      filled[leaf] = key.ours
      values = {g: int(found[g]) for g in inside}
      rows.append((key, leaf, tuple(array.shape), values, stacked))
  counts = collections.Counter()
  for _, _, shape, values, stacked in rows:
    for gap, value in [*values.items(), *zip(stacked, shape, strict=False)]:
      counts[gap] = max(counts[gap], value + (gap in values))
  wishes = []
  for key, leaf, shape, values, stacked in rows:
    for at in np.ndindex(shape[: len(stacked)]):
      inner = {**values, **dict(zip(stacked, at, strict=True))}
      rest = shape[len(stacked) :]
      wishes.append(_Wish(key, leaf, tuple(at), rest, inner, counts))
  return wishes, sorted(set(ours) - set(filled))


def _choose(table: Table, wishes, theirs) -> dict[str, str]:
  """The prefix of each group under which most names are there."""
  chosen = {group: options[0] for group, options in table.prefixes.items()}
  for group, options in table.prefixes.items():
    mine = [w for w in wishes if any(f"<{group}>" in t for t, _ in w.key.ways)]

    def hits(prefix, mine=mine, group=group):
      trial = {**chosen, group: prefix}
      return sum(any(n in theirs for n in w.named(trial)) for w in mine)

    chosen[group] = max(options, key=hits)
  return chosen


def _by_name(hits: Sequence[_Hit]) -> dict[str, list[_Hit]]:
  """Hits by the name they come from, parts in their order.

  Raises:
    CheckpointError: two leaves want the same numbers.
  """
  grouped: dict[str, list[_Hit]] = {}
  for hit in hits:
    grouped.setdefault(hit.name, []).append(hit)
  for name, same in grouped.items():
    if len(same) == 1:
      continue
    parts = {hit.op.number: hit for hit in same if isinstance(hit.op, Part)}
    if set(parts) != set(range(len(same))):
      places = ", ".join(str(hit.wish) for hit in same)
      raise CheckpointError(f"{name} is wanted by {places}, not as parts 0, 1, ..")
    grouped[name] = [parts[number] for number in range(len(same))]
  return grouped


def _cut(hits: Sequence[_Hit]) -> Iterator[Piece]:
  """Pieces of one array, whose rows are theirs one after the other."""
  row = 0
  for hit in hits:
    rows = None
    if len(hits) > 1:
      rows = row, row + hit.shapes[0][0]
      row = rows[1]
    yield Piece(hit.wish.leaf, hit.wish.at, hit.name, rows, hit.op)


def _pieces(hits, ours, theirs, report: Report) -> dict[str, list[Piece]]:
  """Pieces by leaf; what has another shape or kind of number goes into the report."""
  pieces: dict[str, list[Piece]] = {leaf: [] for leaf in ours}
  for name, same in _by_name(hits).items():
    entry, shapes = theirs[name], _expected(same)
    kind = same[0].op.whole or ours[same[0].wish.leaf].dtype
    numbers = np.dtype(kind).kind in "iub"
    if tuple(entry.shape) not in shapes or numbers != (entry.dtype.kind in "iub"):
      there = form(entry.shape, str(entry.dtype))
      wanted = " or ".join(str(list(s)) for s in shapes) or "another rank"
      report.misfit.append(
        f"{name}: {there} in the file, {wanted} wanted for {same[0].wish}"
      )
      continue
    for piece in _cut(same):
      pieces[piece.leaf].append(piece)
  return pieces


def _expected(hits: Sequence[_Hit]) -> list[Shape]:
  """Shapes that an array may have which is all of these, one after the other."""
  if len(hits) == 1:
    return hits[0].shapes
  joined = []
  for shapes in zip(*(hit.shapes for hit in hits), strict=False):
    if len({s[1:] for s in shapes}) == 1:
      joined.append((sum(s[0] for s in shapes), *shapes[0][1:]))
  return joined
