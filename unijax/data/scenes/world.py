"""The scene world: what can stand in a picture, where, and what training never shows.

A scene is up to five coloured shapes on a near-white ground. Coordinates are shares of
the picture, x to the right and y down, so one scene renders at any resolution.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
BACKGROUND = (250, 250, 250)
# At least 90 apart from each other and 200 from the ground (Euclidean RGB), and no
# channel above the ground's, so that pictures compose by a minimum.
PALETTE = {
  "red": (220, 30, 35),
  "green": (30, 160, 50),
  "blue": (40, 70, 225),
  "yellow": (245, 225, 30),
  "purple": (150, 45, 190),
  "orange": (250, 130, 15),
  "cyan": (40, 205, 225),
  "gray": (115, 115, 115),
}
COLOURS = tuple(PALETTE)
MAX_THINGS = 5

# word -> (axis, sign): `a word b` is true when sign * (a[axis] - b[axis]) is large.
RELATIONS = {
  "above": (1, -1.0),
  "below": (1, 1.0),
  "left of": (0, -1.0),
  "right of": (0, 1.0),
}
OPPOSITE = {
  "above": "below",
  "below": "above",
  "left of": "right of",
  "right of": "left of",
}
# A relation is written only with a wide margin and accepted with half of it, so that a
# reading error of a pixel never turns a true sentence into a false one.
STATE_MARGIN = 0.10
ACCEPT_MARGIN = 0.05

PLACES = {
  "top left": (-1, -1),
  "top": (0, -1),
  "top right": (1, -1),
  "left": (-1, 0),
  "middle": (0, 0),
  "right": (1, 0),
  "bottom left": (-1, 1),
  "bottom": (0, 1),
  "bottom right": (1, 1),
}
_PLACE_NAMES = {cell: name for name, cell in PLACES.items()}


class Thing(NamedTuple):
  """One object: its look, and its centre in shares of the picture."""

  shape: str
  colour: str
  size: str
  x: float
  y: float

  @property
  def kind(self) -> tuple[str, str]:
    """(shape, colour): what must be right for a picture to show this thing."""
    return (self.shape, self.colour)


class Scene(NamedTuple):
  """All things of a picture; `grid` decides the radii (see `radius`)."""

  things: tuple[Thing, ...]
  grid: int


KINDS = tuple((shape, colour) for shape in SHAPES for colour in COLOURS)
# Split `combo`: every colour loses one shape and every shape two colours.
HELD_OUT_KINDS = frozenset(
  {
    ("circle", "yellow"),
    ("circle", "cyan"),
    ("square", "green"),
    ("square", "purple"),
    ("triangle", "red"),
    ("triangle", "blue"),
    ("cross", "orange"),
    ("cross", "gray"),
  }
)
TRAIN_KINDS = tuple(kind for kind in KINDS if kind not in HELD_OUT_KINDS)
# Split `relation`: of the twelve (pair of different shapes, axis) three have one
# direction that no training picture shows and no training text states.
HELD_OUT_RELATIONS = (
  ("circle", "above", "triangle"),
  ("cross", "left of", "square"),
  ("square", "above", "circle"),
)
# Every ordered pair of shapes touched by a held-out direction -> (axis, sign), read as
# in RELATIONS; both orders are listed so that one look-up decides.
_HELD_OUT: dict[tuple[str, str], list[tuple[int, float]]] = {}
for _a, _word, _b in HELD_OUT_RELATIONS:
  _axis, _sign = RELATIONS[_word]
  _HELD_OUT.setdefault((_a, _b), []).append((_axis, _sign))
  _HELD_OUT.setdefault((_b, _a), []).append((_axis, -_sign))


def radius(size: str, grid: int) -> float:
  """Half the width of a thing, as a share of the picture.

  A grid of n cells a side scales with the cell (0.8 of it for a large thing); anywhere
  placement (`grid` 0) uses radii of which five fit.
  """
  if grid:
    return (0.40 if size == "large" else 0.26) / grid
  return 0.14 if size == "large" else 0.09


def things_of(scene) -> Sequence[Thing]:
  """The things of a Scene, or the sequence itself (found things, for instance)."""
  return scene.things if isinstance(scene, Scene) else scene


def related(a, word: str, b, margin: float = STATE_MARGIN) -> bool:
  """Whether thing `a` is `word` thing `b` by at least `margin` of the picture."""
  axis, sign = RELATIONS[word]
  delta = (a.y - b.y) if axis else (a.x - b.x)
  return sign * delta >= margin


def place_of(x: float, y: float) -> str | None:
  """Name of the place of a point, None where a careful speaker would not say."""
  cell = []
  for value in (x, y):
    if value <= 0.40:
      cell.append(-1)
    elif value >= 0.60:
      cell.append(1)
    elif abs(value - 0.5) <= 0.06:
      cell.append(0)
    else:
      return None
  return _PLACE_NAMES[tuple(cell)]


def in_place(x: float, y: float, place: str) -> bool:
  """Whether a point may be said to lie at `place`: wider than `place_of` by 0.05."""
  for value, side in zip((x, y), PLACES[place], strict=True):
    if abs(value - 0.5) > 0.11 if side == 0 else side * (value - 0.5) < ACCEPT_MARGIN:
      return False
  return True


def breaks_relation(a, b, margin: float = ACCEPT_MARGIN) -> bool:
  """Whether two things stand in a held-out direction (in either order)."""
  for axis, sign in _HELD_OUT.get((a.shape, b.shape), ()):
    if sign * ((a.y - b.y) if axis else (a.x - b.x)) >= margin:
      return True
  return False


def held_out_axis(shape_a: str, word: str, shape_b: str) -> bool:
  """Whether this pair of shapes has a held-out direction on the axis of `word`."""
  axis = RELATIONS[word][0]
  return any(axis == other for other, _ in _HELD_OUT.get((shape_a, shape_b), ()))


def held_out_relation(shape_a: str, word: str, shape_b: str) -> bool:
  """Whether `a word b` states a held-out direction, in either wording."""
  return (RELATIONS[word]) in _HELD_OUT.get((shape_a, shape_b), ())


def held_out_pairs(things: Sequence[Thing]) -> list[tuple[int, str, int]]:
  """All (i, word, j) of a scene that state a held-out direction with full margin."""
  return [
    (i, word, j)
    for i, a in enumerate(things)
    for j, b in enumerate(things)
    if i != j
    for word in RELATIONS
    if held_out_relation(a.shape, word, b.shape) and related(a, word, b)
  ]


def any_broken(things: Iterable[Thing]) -> bool:
  """Whether any pair of things stands in a held-out direction."""
  things = tuple(things)
  return any(
    breaks_relation(a, b) for i, a in enumerate(things) for b in things[i + 1 :]
  )
