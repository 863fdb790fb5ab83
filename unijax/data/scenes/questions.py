"""Questions about a scene with one exact answer, balanced so that guessing does badly.

Each maker chooses the answer it wants before the question, where the scene allows.
"""

from typing import NamedTuple

from unijax.data.scenes import language, world
from unijax.data.scenes.sample import pick, shuffled

TAGS = (
  "exist",
  "count",
  "colour",
  "shape",
  "relation",
  "more",
  "same",
  "place",
  "size",
)
WORDS = {
  "train": {
    "exist": "is there {}?",
    "count": "how many {}?",
    "colour": "what color is the {}?",
    "shape": "what shape is {}?",
    "relation": "is the {} {} the {}?",
    "more": "more {} than {}?",
    "same": "same {}?",
    "place": "where is the {}?",
    "size": "what size is the {}?",
  },
  "paraphrase": {
    "exist": "can you see {}?",
    "count": "count the {}",
    "colour": "which color has the {}?",
    "shape": "name the {} shape",
    "relation": "does the {} lie {} the {}?",
    "more": "do {} outnumber {}?",
    "same": "do both share one {}?",
    "place": "in which part is the {}?",
    "size": "how big is the {}?",
  },
}


class Question(NamedTuple):
  """A question, its one right answer, and its tag (one of `TAGS`)."""

  text: str
  answer: str
  tag: str


class Asker(NamedTuple):
  """What a question maker may use.

  Attributes:
    things: of the scene.
    rng: only `random()` is called.
    words: templates of one phrasing.
    phrasing: its name.
    kinds: (shape, colour) pairs that a text may name.
    focus: indices of things that attribute questions are about.
    pairs: (i, word, j) statements, true with full margin, relations are asked of.
  """

  things: tuple
  rng: object
  words: dict[str, str]
  phrasing: str
  kinds: tuple
  focus: list[int]
  pairs: list


def reference(things, index: int, avoid: str = "") -> str | None:
  """The shortest noun phrase that fits one thing alone; None where none does.

  Args:
    things: of the scene.
    index: of the thing.
    avoid: "shape" or "colour" for a phrase without it.
  """
  thing = things[index]
  if avoid != "shape" and sum(t.shape == thing.shape for t in things) == 1:
    return thing.shape
  if avoid != "colour" and sum(t.colour == thing.colour for t in things) == 1:
    return f"{thing.colour} one"
  if not avoid and sum(t.kind == thing.kind for t in things) == 1:
    return f"{thing.colour} {thing.shape}"
  return None


def _exist(ask: Asker) -> Question | None:
  rng, want = ask.rng, ask.rng.random() < 0.5
  level = rng.random()
  if level < 0.6:
    present = {t.kind for t in ask.things}
    shapes = {t.shape for t in ask.things}
    colours = {t.colour for t in ask.things}
    if want:
      pool = sorted({ask.things[i].kind for i in ask.focus})
    else:  # half of the absent ones share a shape or a colour with the picture
      pool = [k for k in ask.kinds if k not in present]
      if rng.random() < 0.5:
        near = [k for k in pool if k[0] in shapes or k[1] in colours]
        pool = near or pool
    shape, colour = pick(rng, pool)
    phrase = f"{colour} {shape}"
  else:
    values = world.SHAPES if level < 0.8 else world.COLOURS
    seen = {t.shape if level < 0.8 else t.colour for t in ask.things}
    pool = [value for value in values if (value in seen) == want]
    if not pool:
      return None
    phrase = pick(rng, pool) + ("" if level < 0.8 else " shape")
  text = ask.words["exist"].format(language.with_article(phrase))
  return Question(text, "yes" if want else "no", "exist")


def _count(ask: Asker) -> Question | None:
  options: dict[int, list[str]] = {len(ask.things): ["shapes"]}
  for shape in world.SHAPES:
    n = sum(t.shape == shape for t in ask.things)
    options.setdefault(n, []).append(language.noun(shape, 2))
  for colour in world.COLOURS:
    n = sum(t.colour == colour for t in ask.things)
    options.setdefault(n, []).append(f"{colour} shapes")
  n = pick(ask.rng, sorted(options))
  return Question(ask.words["count"].format(pick(ask.rng, options[n])), str(n), "count")


def _attribute(ask: Asker, tag: str) -> Question | None:
  for index in shuffled(ask.rng, ask.focus):
    thing = ask.things[index]
    if tag == "shape":
      if sum(t.colour == thing.colour for t in ask.things) == 1:
        return Question(ask.words["shape"].format(thing.colour), thing.shape, "shape")
      continue
    phrase = reference(ask.things, index, avoid="colour" if tag == "colour" else "")
    answer = {"colour": thing.colour, "size": thing.size}.get(tag)
    if tag == "place":
      answer = world.place_of(thing.x, thing.y)
    if phrase is not None and answer is not None:
      return Question(ask.words[tag].format(phrase), answer, tag)
  return None


def _relation(ask: Asker) -> Question | None:
  if not ask.pairs:
    return None
  i, word, j = pick(ask.rng, ask.pairs)
  a, b = reference(ask.things, i), reference(ask.things, j)
  if a is None or b is None:
    return None
  want = ask.rng.random() < 0.5
  word = word if want else world.OPPOSITE[word]
  said = language.relation_text(word, ask.phrasing, ask.rng)
  text = ask.words["relation"].format(a, said, b)
  return Question(text, "yes" if want else "no", "relation")


def _more(ask: Asker) -> Question | None:
  counts = {s: sum(t.shape == s for t in ask.things) for s in world.SHAPES}
  want = ask.rng.random() < 0.5
  pool = [
    (a, b)
    for a in world.SHAPES
    for b in world.SHAPES
    if a != b and counts[a] + counts[b] and (counts[a] > counts[b]) == want
  ]
  if not pool:  # one of each shape: nothing outnumbers anything
    return None
  a, b = pick(ask.rng, pool)
  text = ask.words["more"].format(language.noun(a, 2), language.noun(b, 2))
  return Question(text, "yes" if want else "no", "more")


def _same(ask: Asker) -> Question | None:
  if len(ask.things) != 2:
    return None
  one, two = ask.things
  about_colour = ask.rng.random() < 0.5
  same = one.colour == two.colour if about_colour else one.shape == two.shape
  # Equal colours (1 in 8) and shapes (2 in 7: the hold-outs thin out unequal ones) are
  # rare: ask few of the unequal pairs.
  # Two things alike leave few other questions: ask half of them.
  keep = 1.0 if one.kind != two.kind else 0.5
  if not same:
    keep = 1 / 7 if about_colour else 2 / 5
  if ask.rng.random() > keep:
    return None
  text = ask.words["same"].format("color" if about_colour else "shape")
  return Question(text, "yes" if same else "no", "same")


def _make(ask: Asker, tag: str) -> Question | None:
  makers = {
    "exist": _exist,
    "count": _count,
    "relation": _relation,
    "more": _more,
    "same": _same,
  }
  return makers[tag](ask) if tag in makers else _attribute(ask, tag)


def questions(
  scene, rng, n: int, split: str = "train", sizes: bool = False
) -> list[Question]:
  """Up to `n` different questions about a scene, of random tags.

  Splits decide what a text may name and what it is about: questions of `combo` aim at
  the held-out kinds, relation questions of `relation` at the held-out direction; in
  all others no question names a held-out kind or asks along a held-out axis. (Both
  directions are left out there: asking only the allowed one would always be answered
  alike.)
  """
  things = world.things_of(scene)
  phrasing = "paraphrase" if split == "paraphrase" else "train"
  focus = list(range(len(things)))
  kinds = world.TRAIN_KINDS
  if split == "combo":
    kinds = tuple(sorted(world.HELD_OUT_KINDS))
    focus = [i for i in focus if things[i].kind in world.HELD_OUT_KINDS]
  if split == "relation":
    pairs = world.held_out_pairs(things)
  else:
    pairs = [
      (i, word, j)
      for i, word, j in language.true_relations(things)
      if not world.held_out_axis(things[i].shape, word, things[j].shape)
    ]
  ask = Asker(things, rng, WORDS[phrasing], phrasing, kinds, focus, pairs)
  out: list[Question] = []
  tags = shuffled(rng, TAGS if sizes else TAGS[:-1])
  for _ in range(4):  # rounds: a maker may decline, or repeat a question
    for tag in tags:
      if len(out) == n:
        return out
      question = _make(ask, tag)
      if question is not None and all(question.text != q.text for q in out):
        out.append(question)
  return out
