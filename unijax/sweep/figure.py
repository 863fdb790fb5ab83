"""The figure of a sweep: every score with its intervals, as one SVG that needs no page.

Where all points cost the same, a line a point: its mean, its interval over seeds, and
each seed. Where they do not, scores over training FLOPs, joined where they are the best
of a curve at a budget.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from unijax.evals.figures import lower, share
from unijax.report.markup import Html, el
from unijax.sweep import table
from unijax.sweep.table import Row

COLOURS = ("#2f6db3", "#d1701c", "#2b9270", "#b24a86", "#8a6fc4", "#a8870f")
INK, SOFT, LINE = "#1c2024", "#61686f", "#d9dad6"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 520, 250, 18, 34, 30  # of a panel, pixels
ROW, TALL = 24, 200  # of a point; of a panel over FLOPs
NARROW = 56  # left of a panel over FLOPs
NAMES = re.compile(r"[\w.]+=")  # of knobs, in labels
SIZES = 3.0, 6.5  # radius of a dot of the smallest and of the largest model


@dataclasses.dataclass(frozen=True)
class Scale:
  """From values to pixels."""

  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: float) -> float:
    """The pixel of a value; of one beyond an end, that of the end."""
    low, high, value = (math.log(x) if self.log else x for x in self._three(value))
    share_ = (value - low) / (high - low) if high > low else 0.5
    return round(self.start + share_ * (self.end - self.start), 1)

  def _three(self, value):
    return self.low, self.high, min(max(value, self.low), self.high)


def svg(
  rows: Sequence[Row], names: Sequence[str], seeds: Mapping[str, Mapping[str, list]],
  curves: str = "",
) -> str:  # fmt: skip
  """The whole file.

  Args:
    rows: of the table.
    names: scores, a panel each.
    seeds: group of a row -> score -> value of each seed.
    curves: the path whose values are curves over FLOPs.
  """
  budgets = {row.flops for row in rows if row.flops is not None}
  over = bool(curves) and len(budgets) > 1
  panels = [
    _over_flops(rows, name, curves) if over else _dots(rows, name, seeds)
    for name in names
  ]
  height = max((h for _, h in panels), default=0)
  placed = [
    el("g", panel, transform=f"translate({i % 2 * WIDTH} {i // 2 * height})")
    for i, (panel, _) in enumerate(panels)
  ]
  wide, high = WIDTH * min(len(panels), 2), height * -(-len(panels) // 2)
  return el(
    "svg", el("rect", width=wide, height=high, fill="#ffffff"), placed,
    xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {wide} {high}", width=wide,
    font_family=FONT, font_size=12, role="img",
  )  # fmt: skip


def _text(words: str, x: float, y: float, anchor="start", fill=INK, **more) -> Html:
  return el("text", words, x=x, y=y, text_anchor=anchor, fill=fill, **more)


def _range(values: Sequence[float], name: str) -> tuple[float, float]:
  """Ends of an axis: from 0 where a score is a share."""
  low, high = min(values), max(values)
  if share(name):
    low, high = 0.0, min(1.0, max(high, 0.05))
  room = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
  return (low if share(name) else low - room), high + room


def _ends(row: Row, name: str) -> tuple[float, float]:
  score = row.scores[name]
  return score.ends or (score.mean, score.mean)


def _shown(name: str, value: float) -> str:
  return f"{100 * value:.3g} %" if share(name) else f"{value:.3g}"


def _ticks(scale: Scale) -> list[float]:
  rough = (scale.high - scale.low) / 4
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
  first = math.ceil(scale.low / step - 1e-9)
  ticks = [round(i * step, 12) for i in range(first, first + 8)]
  return [t for t in ticks if t <= scale.high]


def _dots(rows, name: str, seeds) -> tuple[list[Html], int]:
  """A panel with a line a point, and its height."""
  some = [row for row in rows if name in row.scores]
  each = {row.group: seeds.get(row.group, {}).get(name, []) for row in some}
  values = [v for row in some for v in (*_ends(row, name), *each[row.group])] or [0.0]
  bottom = TOP + ROW * len(some)
  scale = Scale(*_range(values, name), LEFT, WIDTH - RIGHT)
  paths = ", ".join(x[:-1] for x in NAMES.findall(some[0].label)) if some else ""
  shapes = [
    _text(table.title(name), LEFT, 18, font_weight=600),
    _text(paths, LEFT - 10, 18, "end", SOFT),
  ]
  for tick in _ticks(scale):
    x = scale(tick)
    shapes.append(el("line", x1=x, x2=x, y1=TOP - 6, y2=bottom, stroke=LINE))
    shapes.append(_text(_shown(name, tick), x, bottom + 16, "middle", SOFT))
  for i, row in enumerate(some):
    y = TOP + ROW * i + ROW / 2 - 3
    low, high = map(scale, _ends(row, name))
    colour = COLOURS[i % len(COLOURS)]
    values = NAMES.sub("", row.label)  # the names stand once, above
    shapes.append(_text(values, LEFT - 10, y + 4, "end"))
    shapes.append(
      el("line", x1=low, x2=high, y1=y, y2=y, stroke=colour, stroke_width=2)
    )
    shapes += [
      el("circle", cx=scale(v), cy=y, r=2.5, fill=colour, opacity=0.45)
      for v in each[row.group]
    ]
    mean = scale(row.scores[name].mean)
    shapes.append(el("circle", cx=mean, cy=y, r=4.5, fill=colour))
  return shapes, bottom + BOTTOM


def _over_flops(rows, name: str, curves: str) -> tuple[list[Html], int]:
  """A panel with scores over FLOPs, and its height."""
  some = [row for row in rows if name in row.scores and row.flops is not None]
  values = [v for row in some for v in _ends(row, name)] or [0.0]
  costs = [row.flops for row in some] or [1.0]
  room = 1.25
  x = Scale(min(costs) / room, max(costs) * room, NARROW, WIDTH - RIGHT, log=True)
  y = Scale(*_range(values, name), TOP + TALL, TOP)
  shapes = [_text(table.title(name), 10, 18, font_weight=600)]
  for tick in _ticks(y):
    at = y(tick)
    shapes.append(el("line", x1=NARROW, x2=WIDTH - RIGHT, y1=at, y2=at, stroke=LINE))
    shapes.append(_text(_shown(name, tick), NARROW - 6, at + 4, "end", SOFT))
  for cost in _budgets(costs):
    shapes.append(_text(f"{cost:.1e}", x(cost), TOP + TALL + 16, "middle", SOFT))
  shapes.append(_text("FLOPs of training", WIDTH - RIGHT, TOP + TALL + 30, "end", SOFT))
  kinds = list(dict.fromkeys(str(row.point.get(curves, "")) for row in some))
  for i, kind in enumerate(kinds):
    here = [row for row in some if str(row.point.get(curves, "")) == kind]
    shapes += _curve(here, name, x, y, COLOURS[i % len(COLOURS)], 7.0 * i)
    word = kind.rpartition("/")[2].removesuffix(".py") or "best"
    at, colour = (WIDTH - RIGHT, 18 + 14 * i), COLOURS[i % len(COLOURS)]
    shapes.append(_text(word, *at, "end", colour, font_weight=600))
  return shapes, TOP + TALL + BOTTOM + 10


def _budgets(costs: Sequence[float]) -> list[float]:
  """The largest cost of each group of those that are apart by less than a tenth: what
  was given, of which whole steps buy no more."""
  found: list[float] = []
  for cost in sorted(costs, reverse=True):
    if not found or cost < 0.9 * found[-1]:
      found.append(cost)
  return found[::-1]


def _curve(rows, name: str, x: Scale, y: Scale, colour: str, shift: float):
  """Dots of models, larger for larger ones, and a line through the best of a budget."""
  sizes = sorted({row.parameters or 0 for row in rows})
  best: dict[float, float] = {}
  better = min if lower(name) else max
  for row in rows:
    cost = next(c for c in _budgets([r.flops for r in rows]) if row.flops <= c)
    best[cost] = better(best.get(cost, row.scores[name].mean), row.scores[name].mean)
  line = " ".join(f"{x(cost)},{y(best[cost])}" for cost in sorted(best))
  yield el("polyline", points=line, fill="none", stroke=colour, stroke_width=2)
  for row in rows:
    rank = sizes.index(row.parameters or 0)
    radius = SIZES[0] + (SIZES[1] - SIZES[0]) * rank / max(len(sizes) - 1, 1)
    at = round(x(row.flops) + shift + 3.0 * rank - 5.0, 1)
    low, high = map(y, _ends(row, name))
    yield el("line", x1=at, x2=at, y1=low, y2=high, stroke=colour, opacity=0.5)
    yield el("circle", cx=at, cy=y(row.scores[name].mean), r=round(radius, 1),
             fill="#ffffff", stroke=colour, stroke_width=2)  # fmt: skip
