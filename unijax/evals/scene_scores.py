"""Scores of model outputs on scenes, all exact: pure functions over lists.

Pictures are read by `data.scenes.verify`, texts by `data.scenes.language`; nothing is
judged by a model. Each function returns one record an item; `table` turns records into
means with bootstrap intervals.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unijax.data.scenes import edits as edits_lib
from unijax.data.scenes import language, verify, world
from unijax.data.scenes import spec as spec_lib
from unijax.data.scenes.spec import Spec, Verdict

POSITION_TOLERANCE = 0.08  # of the picture: how far an untouched thing may drift
_NUMBERS = {word: str(n) for n, word in enumerate(language.NUMBERS)}


class DrawScore(NamedTuple):
  """A picture against its prompt.

  `exact`: all things and no other, and every stated size, place and relation true.
  `f1`: of the multiset of (shape, colour). `tags`: verdicts of the GenEval tags that
  apply to the prompt. `found`: what was read.
  """

  exact: bool
  f1: float
  tags: dict[str, bool]
  reason: str
  found: list


class CaptionScore(NamedTuple):
  """A caption against the truth; `parsed` is None where it is no sentence."""

  exact: bool
  f1: float
  reason: str
  parsed: Spec | None


class AnswerScore(NamedTuple):
  """An answer to one question."""

  exact: bool
  tag: str


class EditScore(NamedTuple):
  """An edited picture."""

  exact: bool
  kind: str
  reason: str


def object_f1(said: Sequence, seen: Sequence) -> float:
  """F1 between two multisets of (shape, colour); 1 where both are empty."""
  if not said and not seen:
    return 1.0
  hits = sum((Counter(said) & Counter(seen)).values())
  return 2.0 * hits / (len(said) + len(seen))


def _kinds(things) -> list[tuple[str, str]]:
  return sorted((t.shape, t.colour) for t in world.things_of(things))


def tag_verdicts(spec: Spec, found) -> dict[str, bool]:
  """Verdicts of the six GenEval tags (Ghosh et al. 2023) that apply to a prompt.

  single_object: one item; the right shape and nothing else. two_object: two items of
  different shape; both shapes and nothing else. counting: some kind named twice or
  more; the number of things of each such kind. colors: one item; a thing of its shape
  and colour. position: a place or relation is stated; some naming of the things makes
  them all true. color_attr: two or more items of different shape and colour; every
  shape with its own colour, nothing else.
  """
  found = list(found)
  said, seen = spec_lib.kinds_of(spec), _kinds(found)
  shapes = sorted(shape for shape, _ in said), sorted(shape for shape, _ in seen)
  counts = Counter(said)
  out = {}
  if len(said) == 1:
    out["single_object"] = shapes[0] == shapes[1]
    out["colors"] = said[0] in seen
  if len(said) == 2 and len(set(shapes[0])) == 2:
    out["two_object"] = shapes[0] == shapes[1]
  if any(n > 1 for n in counts.values()):
    out["counting"] = all(seen.count(k) == n for k, n in counts.items() if n > 1)
  if spec.relations or any(item.place for item in spec.items):
    out["position"] = _position(spec, found)
  if len(set(shapes[0])) > 1 and len({colour for _, colour in said}) > 1:
    out["color_attr"] = said == seen
  return out


def _position(spec: Spec, found) -> bool:
  """Whether the stated places and relations are true, among the things they name."""
  used = {i for r in spec.relations for i in (r.a, r.b)}
  used |= {i for i, item in enumerate(spec.items) if item.place}
  order = sorted(used)
  items = tuple(spec.items[i]._replace(size=None) for i in order)
  relations = tuple(
    spec_lib.Relation(order.index(r.a), r.word, order.index(r.b))
    for r in spec.relations
  )
  return spec_lib.statements_hold(Spec(items, relations), found).ok


def drawings(
  specs: Sequence[Spec],
  pictures: Sequence[np.ndarray],
  *,
  grid: int,
  mode: str = "soft",
) -> list[DrawScore]:
  """Scores generated pictures (uint8 [size, size, 3]) against their prompts."""
  out = []
  for spec, pixels in zip(specs, pictures, strict=True):
    found = verify.read_scene(pixels, grid=grid, mode=mode)
    verdict = spec_lib.holds(spec, found)
    f1 = object_f1(spec_lib.kinds_of(spec), _kinds(found))
    tags = tag_verdicts(spec, found)
    out.append(DrawScore(verdict.ok, f1, tags, verdict.reason, found))
  return out


def captions(texts: Sequence[str], scenes: Sequence) -> list[CaptionScore]:
  """Scores captions: exact if it parses, names all things and states nothing false."""
  out = []
  for text, scene in zip(texts, scenes, strict=True):
    spec = language.parse(text)
    if spec is None:
      out.append(CaptionScore(False, 0.0, f"not a sentence: {text!r}", None))
      continue
    verdict = spec_lib.holds(spec, scene)
    f1 = object_f1(spec_lib.kinds_of(spec), _kinds(scene))
    out.append(CaptionScore(verdict.ok, f1, verdict.reason, spec))
  return out


def normal_answer(text: str) -> str:
  """An answer without case, article, final punctuation; numbers as digits."""
  text = " ".join(text.lower().split()).strip(" .!?,")
  text = re.sub(r"^(at |in |on )?(the |an? )", "", text).replace("grey", "gray")
  return _NUMBERS.get(text, text)


def answers(
  texts: Sequence[str], truths: Sequence[str], tags: Sequence[str]
) -> list[AnswerScore]:
  """Scores short answers by equality after `normal_answer`."""
  return [
    AnswerScore(normal_answer(text) == normal_answer(truth), tag)
    for text, truth, tag in zip(texts, truths, tags, strict=True)
  ]


def edit_verdict(task: edits_lib.EditTask, found) -> Verdict:
  """Whether found things are a right outcome of an edit.

  Every kept thing must be found with its shape, colour and size within
  `POSITION_TOLERANCE`; what is left must be exactly the goal: its stated attributes,
  and its position where the edit keeps it, its place where the text names one.
  """
  rest = list(world.things_of(found))
  for thing in task.kept:
    match = next((f for f in rest if _same(f, thing) and _near(f, thing)), None)
    if match is None:
      return Verdict(False, f"lost or changed: {thing.colour} {thing.shape}")
    rest.remove(match)
  if len(rest) != (task.goal is not None):
    return Verdict(False, f"expected {int(task.goal is not None)} more, got {rest}")
  if task.goal is None:
    return Verdict(True)
  goal, thing = task.goal, rest[0]
  if (thing.shape, thing.colour) != (goal.shape, goal.colour):
    return Verdict(False, f"wanted {goal.colour} {goal.shape}, got {thing}")
  if goal.size is not None and thing.size != goal.size:
    return Verdict(False, f"wanted {goal.size}, got {thing}")
  if task.at is not None and not _near(thing, _Point(*task.at)):
    return Verdict(False, f"moved to {thing}")
  if goal.place is not None and not world.in_place(thing.x, thing.y, goal.place):
    return Verdict(False, f"not at the {goal.place}: {thing}")
  return Verdict(True)


class _Point(NamedTuple):
  x: float
  y: float


def _same(a, b) -> bool:
  return (a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)


def _near(a, b) -> bool:
  return max(abs(a.x - b.x), abs(a.y - b.y)) <= POSITION_TOLERANCE


def edits(
  tasks: Sequence[edits_lib.EditTask],
  pictures: Sequence[np.ndarray],
  *,
  mode: str = "soft",
) -> list[EditScore]:
  """Scores edited pictures (uint8 [size, size, 3])."""
  out = []
  for task, pixels in zip(tasks, pictures, strict=True):
    found = verify.read_scene(pixels, grid=task.before.grid, mode=mode)
    verdict = edit_verdict(task, found)
    out.append(EditScore(verdict.ok, task.kind, verdict.reason))
  return out


def specs_agree(a: Spec | None, b: Spec | None) -> bool:
  """Whether two captions can describe one picture as far as both speak.

  The same multiset of kinds; for kinds named once in both, equal sizes and places
  where both state them, and no relation that the other states the other way round.
  None (no sentence) agrees with nothing. Use: prompt -> picture -> caption.
  """
  if a is None or b is None or spec_lib.kinds_of(a) != spec_lib.kinds_of(b):
    return False
  named = [{(i.shape, i.colour): i for i in spec.items} for spec in (a, b)]
  counts = Counter(spec_lib.kinds_of(a))
  for kind, n in counts.items():
    one, two = named[0][kind], named[1][kind]
    for x, y in ((one.size, two.size), (one.place, two.place)):
      if n == 1 and x is not None and y is not None and x != y:
        return False
  said = set(_relations(a))
  return not any((y, word, x) in said for x, word, y in _relations(b))


def _relations(spec: Spec):
  kinds = [(item.shape, item.colour) for item in spec.items]
  for a, word, b in spec.relations:
    yield kinds[a], word, kinds[b]
    yield kinds[b], world.OPPOSITE[word], kinds[a]


def scenes_agree(a, b) -> bool:
  """Whether two pictures show the same known things, wherever they stand.

  Use: picture -> caption -> picture (captions do not fix positions). Pictures with
  unknown things agree with nothing.
  """
  kinds = _kinds(a)
  known = all(verify.UNKNOWN not in kind for kind in kinds)
  return known and kinds == _kinds(b)


def bootstrap(
  values: Sequence[float], n: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
  """(mean, low, high): the mean with its 95 % percentile bootstrap interval.

  Raises:
    ValueError: for no values.
  """
  values = np.asarray(values, np.float64)
  if not len(values):
    raise ValueError("bootstrap of no values: filter empty groups out first")
  rng = np.random.default_rng(seed)
  means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(n)]
  low, high = np.percentile(means, [2.5, 97.5])
  return float(values.mean()), float(low), float(high)


def table(scores: Sequence, n: int = 1000, seed: int = 0) -> dict[str, tuple]:
  """Records of one kind -> {name: (mean, low, high)}.

  Names: "exact"; "f1" for drawings and captions; and "exact/<tag or kind>" for every
  GenEval tag, question tag or edit kind that occurs.
  """
  groups: dict[str, list[float]] = {}
  for score in scores:
    groups.setdefault("exact", []).append(score.exact)
    if hasattr(score, "f1"):
      groups.setdefault("f1", []).append(score.f1)
    if isinstance(score, DrawScore):
      for tag, ok in score.tags.items():
        groups.setdefault(f"exact/{tag}", []).append(ok)
    elif isinstance(score, AnswerScore | EditScore):
      name = score.tag if isinstance(score, AnswerScore) else score.kind
      groups.setdefault(f"exact/{name}", []).append(score.exact)
  return {name: bootstrap(values, n, seed) for name, values in groups.items()}
