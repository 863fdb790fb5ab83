"""Line charts as inline SVG: they follow the page's colours and need no script."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from unijax.report.markup import Html, el, join, number

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 40
_COLOURS = 8  # --s0 to --s7 in style.css
_MOST_POINTS = 500


@dataclasses.dataclass(frozen=True)
class Series:
  """A named line: y over x. Points that are not finite leave a gap."""

  name: str
  x: Sequence[float]
  y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class _Axis:
  low: float
  high: float
  log: bool
  start: float
  end: float

  def __call__(self, value):
    scale = np.log10 if self.log else np.asarray
    low, high = scale(self.low), scale(self.high)
    return self.start + (scale(value) - low) / (high - low) * (self.end - self.start)


def line_chart(
  title: str,
  series: Sequence[Series],
  *,
  x_label: str = "step",
  y_label: str = "",
  log_x: bool = False,
  log_y: bool = False,
  bar: float | None = None,
  ordered: bool = False,
) -> Html:
  """Returns a chart of lines.

  Lines of more than 100 points are drawn twice: faint as measured, and bold as the
  running mean over 2 % of the points. Lines of more than 500 points keep the smallest
  and the largest value of each group of neighbours, so that no spike is lost.

  Args:
    title: heading of the chart.
    series: lines; equal lengths of x and y each.
    x_label: name and unit of x.
    y_label: name and unit of y.
    log_x: whether x is logarithmic; values <= 0 are left out.
    log_y: the same for y.
    bar: horizontal line at a value to reach.
    ordered: whether the lines are levels of one quantity (coloured as a scale).

  Raises:
    ValueError: x and y of a line differ in length.
  """
  lines = [(s.name, *_usable(s, log_x, log_y)) for s in series]
  x_all = np.concatenate([np.empty(0), *(x for _, x, _ in lines)])
  y_all = np.concatenate([np.empty(0), *(y for _, _, y in lines)])
  shown = np.isfinite(x_all) & np.isfinite(y_all)
  if not shown.any():
    return _figure(title, el("p", "No data.", class_="empty"))
  levels = y_all[shown]
  if bar is not None and math.isfinite(bar) and not (log_y and bar <= 0):
    levels = np.append(levels, bar)
  else:
    bar = None
  x_axis = _axis(x_all[shown], log_x, _LEFT, _WIDTH - _RIGHT, pad=0.0)
  y_axis = _axis(levels, log_y, _HEIGHT - _BOTTOM, _TOP, pad=0.04)

  shapes = [*_grid(x_axis, y_axis, x_label, y_label)]
  if bar is not None:
    y = _round(y_axis(bar))
    ends = dict(x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
    shapes.append(el("line", class_="bar", **ends))
  paths, keys, said = _drawn(lines, x_axis, y_axis, ordered)
  view = f"0 0 {_WIDTH} {_HEIGHT}"
  label = f"{title} over {x_label}: " + "; ".join(said)
  svg = el("svg", shapes, paths, viewBox=view, role="img", aria_label=label)
  window = max(_window(y) for _, _, y in lines)
  note = f"Bold: running mean of up to {window} points." if window > 1 else None
  legend = el("ul", keys, class_="keys")
  return _figure(title, join(svg, legend, el("small", note) if note else None))


def _drawn(lines, x_axis, y_axis, ordered: bool):
  """Lines (name, x, y) of a chart: (shapes, entries of the legend, words for each)."""
  paths, keys, said = [], [], []
  for i, (name, x, y) in enumerate(lines):
    colour = _colour(i, len(lines), ordered)
    finite = y[np.isfinite(y)]
    last = number(finite[-1]) if len(finite) else "no data"
    paths += _lines(x_axis, y_axis, x, y, colour)
    swatch = el("i", style=f"background:{colour}")
    keys.append(el("li", swatch, f"{name} ", el("small", last)))
    said.append(f"{name} ends at {last}")
  return paths, keys, said


def columns(*blocks: Html) -> Html:
  """Returns blocks side by side where the window is wide enough."""
  return el("div", blocks, class_="columns")


def _figure(title: str, body: Html) -> Html:
  return el("figure", el("figcaption", title), body, class_="chart")


def _window(y: np.ndarray) -> int:
  return len(y) // 50 if len(y) > 100 else 1


def _lines(x_axis, y_axis, x, y, colour: str) -> list[Html]:
  """A line as measured; a long one faint, under its running mean."""
  window = _window(y)
  if window > 1:
    kinds = (("raw", y), ("mean", _running_mean(y, window)))
  else:
    kinds = (("line", y),)
  return [
    el(
      "path",
      d=_path(x_axis, y_axis, *_thin(x, values)),
      class_=kind,
      style=f"stroke:{colour}",
    )
    for kind, values in kinds
  ]


def _usable(series: Series, log_x: bool, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
  x = np.asarray(series.x, np.float64).reshape(-1).copy()
  y = np.asarray(series.y, np.float64).reshape(-1).copy()
  if len(x) != len(y):
    raise ValueError(f"report: line {series.name!r} has {len(x)} x and {len(y)} y")
  y[~np.isfinite(x) | ~np.isfinite(y)] = np.nan
  if log_x:
    y[~(x > 0)] = np.nan
  if log_y:
    y[~(y > 0)] = np.nan
  x[np.isnan(y)] = np.nan
  return x, y


def _axis(values, log: bool, start: float, end: float, pad: float) -> _Axis:
  low, high = float(values.min()), float(values.max())
  if log:
    if high / low < 1.001:
      low, high = low / 2, high * 2
    room = (high / low) ** pad
    return _Axis(low / room, high * room, True, start, end)
  if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
    room = abs(high) / 10 or 1.0
    return _Axis(low - room, high + room, False, start, end)
  room = (high - low) * pad
  return _Axis(low - room, high + room, False, start, end)


def _ticks(axis: _Axis) -> list[float]:
  if axis.log:
    first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
    many = axis.high / axis.low > 150
    every = max(1, (last - first) // 6)
    steps = [1] if many else [1, 2, 5]
    ticks = [m * 10.0**e for e in range(first, last + 1, every) for m in steps]
  else:
    rough = (axis.high - axis.low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(axis.low / step)
    ticks = [i * step for i in range(first, first + 12)]
  return [tick for tick in ticks if axis.low <= tick <= axis.high]


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[Html]:
  shapes = []
  for tick in _ticks(y_axis):
    y = _round(y_axis(tick))
    shapes.append(el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
    shapes.append(
      el("text", _tick(tick), x=_LEFT - 8, y=y, class_="tick", text_anchor="end", dy=4)
    )
  base = _HEIGHT - _BOTTOM
  for tick in _ticks(x_axis):
    x = _round(x_axis(tick))
    shapes.append(el("line", x1=x, x2=x, y1=base, y2=base + 4, class_="axis"))
    shapes.append(
      el("text", _tick(tick), x=x, y=base + 17, class_="tick", text_anchor="middle")
    )
  ends = dict(x1=_LEFT, x2=_WIDTH - _RIGHT, y1=base, y2=base)
  shapes.append(el("line", class_="axis", **ends))
  middle = dict(x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 5)
  shapes.append(el("text", x_label, class_="label", text_anchor="middle", **middle))
  if y_label:
    centre = (_TOP + base) / 2
    shapes.append(
      el(
        "text",
        y_label,
        class_="label",
        text_anchor="middle",
        transform=f"translate(12 {centre}) rotate(-90)",
      )
    )
  return shapes


def _tick(value: float) -> str:
  return f"{value:.4g}".replace("-", "−") if abs(value) < 1e4 else number(value)


def _colour(index: int, count: int, ordered: bool) -> str:
  if not ordered:
    return f"var(--s{index % _COLOURS})"
  share = index / max(count - 1, 1)
  return f"hsl({(215 + 170 * share) % 360:.0f} 60% 54%)"  # blue, purple, red, orange


def _running_mean(y: np.ndarray, window: int) -> np.ndarray:
  """Mean over `window` points ending at each, of those that are finite."""
  good = np.isfinite(y)
  sums = np.cumsum(np.where(good, y, 0.0))
  counts = np.cumsum(good)
  sums[window:] = sums[window:] - sums[:-window]
  counts[window:] = counts[window:] - counts[:-window]
  return np.where(good, sums / np.maximum(counts, 1), np.nan)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  if len(y) <= _MOST_POINTS:
    return x, y
  keep = []
  for group in np.array_split(np.arange(len(y)), _MOST_POINTS // 2):
    good = group[np.isfinite(y[group])]
    if len(good):
      keep += sorted({good[y[good].argmin()], good[y[good].argmax()]})
    else:
      keep.append(group[0])  # the gap stays a gap
  return x[keep], y[keep]


def _path(x_axis: _Axis, y_axis: _Axis, x: np.ndarray, y: np.ndarray) -> str:
  commands, drawing = [], False
  for a, b in zip(x_axis(x), y_axis(y), strict=True):
    point = math.isfinite(a) and math.isfinite(b)
    if point:
      at = f"{_round(a)} {_round(b)}"
      # A point between two gaps is a line of no length, shown by its round caps.
      commands.append(f"L{at}" if drawing else f"M{at}L{at}")
    drawing = point
  return "".join(commands)


def _round(value: float) -> float:
  return round(float(value), 1)
