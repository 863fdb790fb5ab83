"""Reads a question and answers it from any scene, drawn or found.

Independent of the makers in `questions`: that both agree is a law. It also answers
questions from what was found in a picture.
"""

import re
from typing import NamedTuple

from unijax.data.scenes import language, world
from unijax.data.scenes.questions import WORDS


class _Filter(NamedTuple):
  """What a noun phrase selects; None leaves an attribute open."""

  shape: str | None
  colour: str | None

  def of(self, things) -> list:
    return [
      t
      for t in things
      if self.shape in (None, t.shape) and self.colour in (None, t.colour)
    ]


_SHAPES = {language.noun(s, n): s for s in world.SHAPES for n in (1, 2)}
_SHAPES |= {word: None for word in ("shape", "shapes", "one")}
_RELATIONS = {
  words: relation
  for phrasing in language.PHRASINGS
  for relation, wordings in language.RELATION_WORDS[phrasing].items()
  for words in wordings
}


def _filter(phrase: str) -> _Filter | None:
  words = phrase.split()
  if words and words[0] in ("a", "an"):
    words = words[1:]
  colour = words.pop(0) if words and words[0] in world.PALETTE else None
  if not words:
    return _Filter(None, colour)
  if len(words) > 1 or words[0] not in _SHAPES:
    return None
  return _Filter(_SHAPES[words[0]], colour)


def _pattern(template: str, tag: str) -> re.Pattern:
  relation = "(" + "|".join(sorted(map(re.escape, _RELATIONS), key=len)[::-1]) + ")"
  holes = [r"([a-z ]+?)"] * template.count("{}")
  if tag == "relation":
    holes[1] = relation
  return re.compile(re.escape(template).replace(r"\{\}", "{}").format(*holes))


_PATTERNS = [
  (tag, _pattern(template, tag))
  for table in WORDS.values()
  for tag, template in table.items()
]


def parse_question(text: str) -> tuple[str, tuple[str, ...]] | None:
  """(tag, the phrases in its holes), or None where no template fits."""
  for tag, pattern in _PATTERNS:
    match = pattern.fullmatch(text.strip().lower())
    if match:
      return tag, match.groups()
  return None


def select(phrase: str, scene) -> list | None:
  """Things that a noun phrase fits ("a red circle", "red one"); None if it is none."""
  chosen = _filter(phrase)
  return None if chosen is None else chosen.of(world.things_of(scene))


def answer(text: str, scene) -> str | None:
  """Answers a question about a scene; None where it has no single answer.

  Args:
    text: a question in any phrasing of `questions`.
    scene: a Scene or a sequence of things.
  """
  parsed = parse_question(text)
  if parsed is None:
    return None
  tag, holes = parsed
  things = world.things_of(scene)
  if tag == "same":
    if len(things) != 2:
      return None
    field = "colour" if holes[0] == "color" else holes[0]
    return _yes(getattr(things[0], field) == getattr(things[1], field))
  chosen = [select(h, things) for h in (holes[::2] if tag == "relation" else holes)]
  if None in chosen:
    return None
  if tag == "exist":
    return _yes(chosen[0])
  if tag == "count":
    return str(len(chosen[0]))
  if tag == "more":
    return _yes(len(chosen[0]) > len(chosen[1]))
  if any(len(c) != 1 for c in chosen):
    return None
  if tag == "relation":
    return _yes(world.related(chosen[0][0], _RELATIONS[holes[1]], chosen[1][0], 0.0))
  if tag == "place":
    return world.place_of(chosen[0][0].x, chosen[0][0].y)
  return getattr(chosen[0][0], tag)


def _yes(value) -> str:
  return "yes" if value else "no"
