"""Random scenes under the law of a split: index -> seed -> scene.

Only `random.Random(int)` and its `random()` are used: both are stable across Python
versions and platforms, and cheap.
"""

import random

from unijax.data.scenes import options as options_lib
from unijax.data.scenes import world
from unijax.data.scenes.world import Scene, Thing

_MASK = (1 << 64) - 1
_GAP = 0.03  # free share of the picture between two things placed anywhere
_BORDER = 0.02
_HELD_OUT = tuple(kind for kind in world.KINDS if kind in world.HELD_OUT_KINDS)


def mix(*numbers: int) -> int:
  """Mixes integers into 64 bits (SplitMix64, Steele, Lea and Flood 2014)."""
  state = 0
  for number in numbers:
    state = (state + number + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    state ^= state >> 31
  return state


def generator(options: options_lib.SceneOptions, index: int) -> random.Random:
  """The generator of document `index`; every split of a seed has its own stream."""
  split = options_lib.SPLITS.index(options.split)
  return random.Random(mix(options.seed, split, index))


def pick(rng: random.Random, items):
  """Uniform choice by one `random()` call."""
  return items[int(rng.random() * len(items))]


def shuffled(rng: random.Random, items) -> list:
  """A uniformly shuffled copy (Fisher-Yates)."""
  items = list(items)
  for i in range(len(items) - 1, 0, -1):
    j = int(rng.random() * (i + 1))
    items[i], items[j] = items[j], items[i]
  return items


def jitter(grid: int) -> float:
  """Largest shift of a thing from the centre of its cell."""
  return 0.05 / grid


def cell_centre(cell: int, grid: int) -> tuple[float, float]:
  """Centre (x, y) of a cell, counted row by row."""
  return (cell % grid + 0.5) / grid, (cell // grid + 0.5) / grid


def free_cells(things, grid: int) -> list[int]:
  """Cells of the grid in which no thing stands."""
  taken = {int(t.y * grid) * grid + int(t.x * grid) for t in things}
  return [cell for cell in range(grid * grid) if cell not in taken]


def apart(x: float, y: float, r: float, things, grid: int) -> bool:
  """Whether a box of half width r at (x, y) keeps the gap to the boxes of `things`."""
  for t in things:
    reach = r + world.radius(t.size, grid) + _GAP
    if abs(x - t.x) < reach and abs(y - t.y) < reach:
      return False
  return True


def free_point(rng, size: str, things, grid: int, tries: int = 40):
  """A random place for one more thing, or None where none was found."""
  r = world.radius(size, grid)
  if grid:
    cells = free_cells(things, grid)
    if not cells:
      return None
    x, y = cell_centre(pick(rng, cells), grid)
    shift = jitter(grid)
    return x + shift * (2 * rng.random() - 1), y + shift * (2 * rng.random() - 1)
  low, span = r + _BORDER, 1 - 2 * (r + _BORDER)
  for _ in range(tries):
    x, y = low + span * rng.random(), low + span * rng.random()
    if apart(x, y, r, things, grid):
      return x, y
  return None


def add_thing(rng, things, grid: int, kinds, keep_law: bool = True) -> Thing | None:
  """One more thing of a random kind that breaks no held-out relation, or None."""
  size = pick(rng, world.SIZES)
  point = free_point(rng, size, things, grid)
  if point is None:
    return None
  for _ in range(8):
    shape, colour = pick(rng, kinds)
    thing = Thing(shape, colour, size, *point)
    if not keep_law or not any(world.breaks_relation(thing, t) for t in things):
      return thing
  return None


def _held_out_pair(rng, grid: int) -> list[Thing] | None:
  """Two things in a held-out direction, in random order; None to try again."""
  shape_a, word, shape_b = pick(rng, world.HELD_OUT_RELATIONS)
  pair = []
  for shape in (shape_a, shape_b):
    kinds = [kind for kind in world.TRAIN_KINDS if kind[0] == shape]
    thing = add_thing(rng, pair, grid, kinds, keep_law=False)
    if thing is None:
      return None
    pair.append(thing)
  if not world.related(pair[0], word, pair[1]):
    return None
  return shuffled(rng, pair)


def _attempt(options, rng, count: int) -> Scene | None:
  things: list[Thing] = []
  if options.split == "relation":
    pair = _held_out_pair(rng, options.grid)
    if pair is None:
      return None
    things += pair
  special = int(rng.random() * count) if options.split == "combo" else -1
  while len(things) < count:
    held_out = len(things) == special
    kinds = _HELD_OUT if held_out else world.TRAIN_KINDS
    thing = add_thing(rng, things, options.grid, kinds)
    if thing is None:
      return None
    things.append(thing)
  return Scene(tuple(things), options.grid)


def sample_scene(options: options_lib.SceneOptions, rng: random.Random) -> Scene:
  """Draws one scene of the split. Dead ends (no room, no lawful kind) start over.

  The number of things is drawn once, so that crowded scenes are no rarer for it.
  """
  low, high = options.object_range()
  count = low + int(rng.random() * (high - low + 1))
  while True:
    scene = _attempt(options, rng, count)
    if scene is not None:
      return scene


def lawful(options: options_lib.SceneOptions, scene: Scene) -> bool:
  """Whether a scene obeys the law of the split (edited scenes must, too)."""
  low, high = options.object_range()
  held_out = any(t.kind in world.HELD_OUT_KINDS for t in scene.things)
  if not low <= len(scene.things) <= high or held_out != (options.split == "combo"):
    return False
  if options.split == "relation":
    return bool(world.held_out_pairs(scene.things))
  return not world.any_broken(scene.things)
