"""Edits: an instruction, the scene before, the scene after, and what must hold."""

from typing import NamedTuple

from unijax.data.scenes import language, sample, world
from unijax.data.scenes.questions import reference
from unijax.data.scenes.sample import pick, shuffled
from unijax.data.scenes.spec import Item
from unijax.data.scenes.world import Scene, Thing

KINDS = ("recolour", "move", "add", "remove")
_WORDS = {
  "train": {
    "recolour": ("make the {} {}",),
    "move": ("move the {} to the {}",),
    "add": ("add {}",),
    "remove": ("remove the {}",),
  },
  "paraphrase": {
    "recolour": ("paint the {} {}", "turn the {} {}"),
    "move": ("put the {} in the {} part",),
    "add": ("also draw {}",),
    "remove": ("erase the {}", "take away the {}"),
  },
}


class EditTask(NamedTuple):
  """One edit with exact truth.

  Attributes:
    kind: one of `KINDS`.
    text: the instruction.
    before, after: scenes; `after` is one right outcome.
    kept: things that must stay as and where they are.
    goal: the thing asked for, with None for all that is left open; None for `remove`.
    at: where `goal` must stand (recolour keeps the position); None where it is open.
  """

  kind: str
  text: str
  before: Scene
  after: Scene
  kept: tuple[Thing, ...]
  goal: Item | None
  at: tuple[float, float] | None


def _recolour(scene, rng, words, options, index):
  thing = scene.things[index]
  phrase = reference(scene.things, index)
  if phrase is None:
    return None
  colour = pick(rng, [c for c in world.COLOURS if c != thing.colour])
  changed = thing._replace(colour=colour)
  goal = Item(thing.shape, colour, thing.size)
  return words.format(phrase, colour), changed, goal, (thing.x, thing.y)


def _move(scene, rng, words, options, index):
  thing = scene.things[index]
  phrase = reference(scene.things, index)
  if phrase is None:
    return None
  others = scene.things[:index] + scene.things[index + 1 :]
  old = world.place_of(thing.x, thing.y)
  for _ in range(20):
    point = sample.free_point(rng, thing.size, others, scene.grid)
    place = world.place_of(*point) if point else None
    # Not a place that might already be said of the thing.
    if place and place != old and not world.in_place(thing.x, thing.y, place):
      changed = thing._replace(x=point[0], y=point[1])
      goal = Item(thing.shape, thing.colour, thing.size, place)
      return words.format(phrase, place), changed, goal, None
  return None


def _add(scene, rng, words, options, index):
  held_out = options.split == "combo" and rng.random() < 0.5
  kinds = world.KINDS if held_out else world.TRAIN_KINDS
  thing = sample.add_thing(rng, scene.things, scene.grid, kinds)
  if thing is None:
    return None
  place = world.place_of(thing.x, thing.y)
  if place is not None and rng.random() < 0.5:
    place = None
  size = thing.size if options.sizes else None
  goal = Item(thing.shape, thing.colour, size, place)
  phrase = language.group_text(goal, 1, "train")
  if place is not None:
    phrasing = "paraphrase" if options.split == "paraphrase" else "train"
    phrase += " " + language.place_text(place, phrasing, rng)
  return words.format(phrase), thing, goal, None


def _remove(scene, rng, words, options, index):
  phrase = reference(scene.things, index)
  return None if phrase is None else (words.format(phrase), None, None, None)


_MAKERS = {"recolour": _recolour, "move": _move, "add": _add, "remove": _remove}


def editable(scene: Scene) -> bool:
  """Whether some thing can be referred to without doubt, so that an edit exists."""
  return any(reference(scene.things, i) for i in range(len(scene.things)))


def edit(scene: Scene, rng, options) -> EditTask:
  """A random edit of a scene of the split whose outcome obeys the split's law, too.

  Where an edit of the first kind tried is impossible (nothing can be referred to
  without doubt, no room, an unlawful outcome), others are tried.

  Raises:
    RuntimeError: when no edit of any kind was found: the scene is not `editable`, and
      has neither room for one more thing nor one to spare.
  """
  phrasing = "paraphrase" if options.split == "paraphrase" else "train"
  for _ in range(30):
    for kind in shuffled(rng, KINDS):
      task = _try(kind, scene, rng, options, phrasing)
      if task is not None:
        return task
  raise RuntimeError(f"no lawful edit found for {scene}")


def _try(kind, scene, rng, options, phrasing) -> EditTask | None:
  things = scene.things
  index = len(things) if kind == "add" else int(rng.random() * len(things))
  words = pick(rng, _WORDS[phrasing][kind])
  made = _MAKERS[kind](scene, rng, words, options, index)
  if made is None:
    return None
  text, thing, goal, at = made
  kept = things[:index] + things[index + 1 :]
  new = kept if thing is None else things[:index] + (thing,) + things[index + 1 :]
  after = Scene(new, scene.grid)
  if not new or not sample.lawful(options, after):
    return None
  return EditTask(kind, text, scene, after, kept, goal, at)
