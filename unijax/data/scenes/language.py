"""Captions: how a scene is said in one line, and how the line is read back.

One grammar covers every wording, so `parse(describe(scene)) == spec` is a law:

  caption  := [opening] group (relation group | separator group)* [place]
  group    := (a | an | one | two | 2 | ...) [size] colour shape[s]

A relation binds to the group before it and the group after it, each one thing.
"""

import re

from unijax.data.scenes import world
from unijax.data.scenes.sample import pick, shuffled
from unijax.data.scenes.spec import Item, Relation, Spec

PHRASINGS = ("train", "paraphrase")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
RELATION_WORDS = {
  "train": {word: (word,) for word in world.RELATIONS},
  "paraphrase": {
    "above": ("over", "on top of"),
    "below": ("under", "beneath"),
    "left of": ("to the left of",),
    "right of": ("to the right of",),
  },
}
_PLACE_WORDS = {
  "train": ("at the {}",),
  "paraphrase": ("in the {} part", "near the {}"),
}
_LISTS = {"train": (", ", " and "), "paraphrase": (" plus ", " with ")}
_OPENINGS = {"train": ("",), "paraphrase": ("there is ", "here we see ")}


def noun(shape: str, count: int = 1) -> str:
  """Singular or plural of a shape."""
  if count == 1:
    return shape
  return shape + ("es" if shape == "cross" else "s")


def with_article(words: str) -> str:
  """`words` behind "a" or "an"."""
  return ("an " if words[0] in "aeiou" else "a ") + words


def group_text(item: Item, count: int, phrasing: str) -> str:
  """One group of equal things: "a red circle", "two small red circles"."""
  words = f"{item.size} " if item.size else ""
  words += f"{item.colour} {noun(item.shape, count)}"
  if phrasing == "paraphrase":
    return f"{count} {words}" if count > 1 else f"one {words}"
  return f"{NUMBERS[count]} {words}" if count > 1 else with_article(words)


def relation_text(word: str, phrasing: str, rng) -> str:
  """A wording of a relation."""
  return pick(rng, RELATION_WORDS[phrasing][word])


def place_text(place: str, phrasing: str, rng) -> str:
  """A wording of a place: "at the top left"."""
  return pick(rng, _PLACE_WORDS[phrasing]).format(place)


def true_relations(things) -> list[tuple[int, str, int]]:
  """All (i, word, j) that hold with full margin."""
  return [
    (i, word, j)
    for i, a in enumerate(things)
    for j, b in enumerate(things)
    if i != j
    for word in world.RELATIONS
    if world.related(a, word, b)
  ]


def describe(scene, rng, phrasing: str = "train", sizes: bool = False, focus=None):
  """Says in one short line what is in a scene.

  Args:
    scene: a Scene or a sequence of things.
    rng: a `random.Random`; only `random()` is called.
    phrasing: "train" or "paraphrase".
    sizes: whether to state sizes.
    focus: (i, word, j) of a relation that must be stated, or None to choose.

  Returns:
    (text, Spec), with items in order of mention. All things are named; a relation
    is stated only between things whose kind is unique, with the wide margin.
  """
  things = world.things_of(scene)
  names = [Item(t.shape, t.colour, t.size if sizes else None) for t in things]
  relation = focus
  if relation is None and len(things) > 1:
    if rng.random() < (0.6 if len(things) == 2 else 0.3):
      relation = _choose_relation(things, rng)
  opening = pick(rng, _OPENINGS[phrasing])
  if len(things) == 1:
    return _describe_one(things[0], names[0], opening, phrasing, rng)
  head, relations, parts = [], (), []
  if relation is not None:
    i, word, j = relation
    head = [names[i], names[j]]
    relations = (Relation(0, word, 1),)
    words = relation_text(word, phrasing, rng)
    lead = f"{group_text(names[i], 1, phrasing)} {words} "
    parts.append(lead + group_text(names[j], 1, phrasing))
    names = [name for k, name in enumerate(names) if k not in (i, j)]
  groups: dict[Item, int] = {}
  for name in shuffled(rng, names):
    groups[name] = groups.get(name, 0) + 1
  said = [group_text(item, count, phrasing) for item, count in groups.items()]
  comma, last = _LISTS[phrasing]
  if said:
    rest = said[0] if len(said) == 1 else comma.join(said[:-1]) + last + said[-1]
    parts.append(rest)
  items = head + [item for item, count in groups.items() for _ in range(count)]
  return opening + ", with ".join(parts), Spec(tuple(items), relations)


def _describe_one(thing, name: Item, opening: str, phrasing: str, rng):
  text = opening + group_text(name, 1, phrasing)
  place = world.place_of(thing.x, thing.y)
  if place is None or rng.random() < 0.5:
    return text, Spec((name,))
  name = name._replace(place=place)
  return f"{text} {place_text(place, phrasing, rng)}", Spec((name,))


def _choose_relation(things, rng):
  kinds = [t.kind for t in things]
  unique = [kinds.count(kind) == 1 for kind in kinds]
  found = [r for r in true_relations(things) if unique[r[0]] and unique[r[2]]]
  return pick(rng, found) if found else None


def _phrase_table(words) -> dict[tuple[str, ...], str]:
  return {tuple(phrase.split()): meaning for phrase, meaning in words}


_RELATION_TABLE = _phrase_table(
  (phrase, word)
  for table in RELATION_WORDS.values()
  for word, phrases in table.items()
  for phrase in phrases
)
_PLACE_TABLE = _phrase_table(
  (phrase.format(place), place)
  for phrases in _PLACE_WORDS.values()
  for phrase in phrases
  for place in world.PLACES
)
_SEPARATORS = _phrase_table(
  (phrase, "")
  for phrase in (", and with", ", with", ", and", ",", "and", "with", "plus")
)
_OPENING_TABLE = _phrase_table(
  (opening, "") for table in _OPENINGS.values() for opening in table if opening
)
_COUNTS = {word: n for n, word in enumerate(NUMBERS)} | {"a": 1, "an": 1}
_COUNTS |= {str(n): n for n in range(len(NUMBERS))}
_NOUNS = {noun(shape, n): (shape, n) for shape in world.SHAPES for n in (1, 2)}
_LONGEST = max(
  len(phrase)
  for table in (_RELATION_TABLE, _PLACE_TABLE, _SEPARATORS, _OPENING_TABLE)
  for phrase in table
)


def _take(tokens: list[str], at: int, table) -> tuple[str | None, int]:
  """Longest phrase of `table` at `at`: (meaning or None, position behind it)."""
  for length in range(min(_LONGEST, len(tokens) - at), 0, -1):
    meaning = table.get(tuple(tokens[at : at + length]))
    if meaning is not None:
      return meaning, at + length
  return None, at


def _take_group(tokens: list[str], at: int):
  """A group at `at`: (item, count, position behind it), or None."""
  words = tokens[at : at + 4] + [""] * 4
  count = _COUNTS.get(words[0])
  if count is None or count < 1:
    return None
  size = words[1] if words[1] in world.SIZES else None
  colour, shape = words[2:4] if size else words[1:3]
  shape, number = _NOUNS.get(shape, (None, 0))
  if shape is None or colour not in world.PALETTE or (number == 1) != (count == 1):
    return None
  return Item(shape, colour, size), count, at + (4 if size else 3)


def parse(text: str) -> Spec | None:
  """Reads a caption in any phrasing; None where it is not a sentence of the grammar.

  Case, doubled spaces and a final full stop do not matter.
  """
  tokens = re.findall(r"[a-z0-9]+|,|[^\sa-z0-9,]", text.lower().strip().rstrip("."))
  _, at = _take(tokens, 0, _OPENING_TABLE)
  group = _take_group(tokens, at)
  if group is None:
    return None
  item, count, at = group
  items, relations = [item] * count, []
  while at < len(tokens):
    place, after = _take(tokens, at, _PLACE_TABLE)
    if place is not None:
      if count != 1 or items[-1].place is not None:
        return None
      items[-1] = items[-1]._replace(place=place)
      at = after
      continue
    word, after = _take(tokens, at, _RELATION_TABLE)
    if word is None and _take(tokens, at, _SEPARATORS)[0] is not None:
      after = _take(tokens, at, _SEPARATORS)[1]
    group = _take_group(tokens, after) if after > at else None
    if group is None:
      return None
    before, (item, count, at) = count, group
    items += [item] * count
    if word is not None:
      if before != 1 or count != 1:
        return None
      relations.append(Relation(len(items) - 2, word, len(items) - 1))
  return Spec(tuple(items), tuple(relations))
