"""What the files of a release tell by themselves: fields of its config.json."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unijax.interop import templates


@dataclasses.dataclass(frozen=True)
class Told:
  """A field that the files tell.

  Attributes:
    read: (name -> shape, prefixes by group) -> value, None where they do not.
    wins: it is believed against config.json, in place of an error.
  """

  read: Callable[[Mapping[str, Any], Mapping[str, Sequence[str]]], Any]
  wins: bool = False


Names = str | tuple[str, ...]  # templates with plain gaps; of several, any


def axis(template: Names, number: int) -> Told:
  """The size of an axis of a weight; the first template that is there tells it."""

  def read(theirs, prefixes):
    for name in _names(template, prefixes):
      for found in theirs:
        if templates.matcher(name).fullmatch(found):
          shape = theirs[found].shape
          return shape[number] if number < len(shape) else None
    return None

  return Told(read)


def count(template: Names) -> Told:
  """How many numbers fill the gap of a template: of layers, for example."""

  def read(theirs, prefixes):
    for name in _names(template, prefixes):
      found = sum(1 for n in theirs if templates.matcher(name).fullmatch(n))
      if found:
        return found
    return None

  return Told(read)


def sizes(template: Names, number: int) -> Told:
  """Sizes of an axis of the weights that fill the gap of a template, in its order."""

  def read(theirs, prefixes):
    for name in _names(template, prefixes):
      pattern = templates.matcher(name)
      found = {m: theirs[m[0]].shape for m in map(pattern.fullmatch, theirs) if m}
      if found:
        order = sorted(found, key=lambda m: int(m[1]))
        return tuple(found[m][number] for m in order if number < len(found[m]))
    return None

  return Told(read)


def counts(template: Names) -> Told:
  """How many numbers fill the second gap of a template, for each of the first."""

  def read(theirs, prefixes):
    for name in _names(template, prefixes):
      pattern, found = templates.matcher(name), collections.Counter()
      found.update(int(m[1]) for m in map(pattern.fullmatch, theirs) if m)
      if found:
        return tuple(found[i] for i in sorted(found))
    return None

  return Told(read)


def present(template: Names) -> Told:
  """Whether a weight is there, which is believed: an optional layer, for example."""
  return Told(lambda *sides: not absent(template).read(*sides), wins=True)


def absent(template: Names) -> Told:
  """Whether a weight is not there, which is believed: a tied head, for example."""

  def read(theirs, prefixes):
    return not any(
      templates.matcher(name).fullmatch(n)
      for name in _names(template, prefixes) for n in theirs
    )  # fmt: skip

  return Told(read, wins=True)


def _names(template, prefixes) -> list[str]:
  """Templates with each prefix that their group allows."""
  names = [template] if isinstance(template, str) else list(template)
  for group in templates.groups(names):
    names = [
      n.replace(f"<{group}>", prefix)
      for n in names
      for prefix in (prefixes[group] if f"<{group}>" in n else ("",))
    ]
  return names
