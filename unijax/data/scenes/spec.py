"""What a text asserts, and whether that is true of a scene."""

import itertools
from typing import NamedTuple

from unijax.data.scenes import world

_MAX_NAMINGS = 10_000  # far above the 120 of five things; stops degenerate texts


class Item(NamedTuple):
  """One thing as a text names it; None where the text says nothing."""

  shape: str
  colour: str
  size: str | None = None
  place: str | None = None


class Relation(NamedTuple):
  """`items[a]` is `word` `items[b]`; words are the keys of `world.RELATIONS`."""

  a: int
  word: str
  b: int


class Spec(NamedTuple):
  """What a caption asserts: exactly these things, and what holds between them."""

  items: tuple[Item, ...]
  relations: tuple[Relation, ...] = ()


class Verdict(NamedTuple):
  """Whether a claim holds, and the first thing wrong with it ("" where it holds)."""

  ok: bool
  reason: str = ""


def kinds_of(spec: Spec) -> list[tuple[str, str]]:
  """Sorted (shape, colour) of all items."""
  return sorted((item.shape, item.colour) for item in spec.items)


def holds(spec: Spec, scene) -> Verdict:
  """Whether all that a text asserts is true of a scene, and nothing is left out.

  The multiset of (shape, colour) of all things must match exactly; then some
  one-to-one naming of the things must make every stated size, place and relation
  true, places and relations with the narrow margin of `world`.

  Args:
    spec: what is asserted.
    scene: a Scene or a sequence of things (found ones, for instance).
  """
  things = world.things_of(scene)
  said = kinds_of(spec)
  seen = sorted((t.shape, t.colour) for t in things)
  if said != seen:
    return Verdict(False, f"objects: said {_names(said)}; seen {_names(seen)}")
  return statements_hold(spec, things)


def statements_hold(spec: Spec, scene) -> Verdict:
  """Whether all stated sizes, places and relations are true, other things aside.

  Some choice of different things for the items must make all of them true at once.
  """
  things = world.things_of(scene)
  fitting = [
    [
      i
      for i, t in enumerate(things)
      if (t.shape, t.colour) == (item.shape, item.colour)
    ]
    for item in spec.items
  ]
  for item, candidates in zip(spec.items, fitting, strict=True):
    if not candidates:
      return Verdict(False, f"objects: no {item.colour} {item.shape}")
  reason = "objects: fewer of a kind than named"
  for naming in itertools.islice(_namings(fitting, ()), _MAX_NAMINGS):
    reason = _wrong(spec, [things[i] for i in naming])
    if not reason:
      return Verdict(True)
  return Verdict(False, reason)


def _names(kinds) -> str:
  return ", ".join(f"{colour} {shape}" for shape, colour in kinds) or "nothing"


def _namings(fitting: list[list[int]], chosen: tuple[int, ...]):
  """All choices of one index an item, none of them twice."""
  if len(chosen) == len(fitting):
    yield chosen
    return
  for index in fitting[len(chosen)]:
    if index not in chosen:
      yield from _namings(fitting, (*chosen, index))


def _wrong(spec: Spec, naming) -> str:
  """The first false statement under a naming, "" where all are true."""
  for item, thing in zip(spec.items, naming, strict=True):
    name = f"{item.colour} {item.shape}"
    if item.size is not None and item.size != thing.size:
      return f"size: {name} is {thing.size}, not {item.size}"
    if item.place is not None and not world.in_place(thing.x, thing.y, item.place):
      return f"place: {name} is at ({thing.x:.2f}, {thing.y:.2f}), not {item.place}"
  for a, word, b in spec.relations:
    if not world.related(naming[a], word, naming[b], world.ACCEPT_MARGIN):
      one, two = spec.items[a], spec.items[b]
      return (
        f"relation: {one.colour} {one.shape} is not {word} {two.colour} {two.shape}"
      )
  return ""
