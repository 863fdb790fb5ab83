"""Scores against the bars they must reach, for the page and for the terminal."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from unijax.report.markup import Html, el, join, number
from unijax.report.plain import plain_table


@dataclasses.dataclass(frozen=True)
class Score:
  """One measured figure.

  Attributes:
    name: what was measured.
    value: the figure; NaN when it could not be measured.
    low: lower end of its 95 % interval, if known.
    high: upper end of it.
    bar: value to reach, if there is one.
    higher_is_better: whether `bar` is a floor (True) or a ceiling.
    baselines: other figures for the same measure, by name (chance, a prior, a peer).
    percent: whether all these are fractions to be shown as percentages.
    count: how many items the value is made of.
    note: how it was measured, in a few words.
  """

  name: str
  value: float
  low: float | None = None
  high: float | None = None
  bar: float | None = None
  higher_is_better: bool = True
  baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
  percent: bool = False
  count: int | None = None
  note: str = ""

  @property
  def passed(self) -> bool | None:
    """Whether the bar is reached; None without a bar, False for a NaN value."""
    if self.bar is None:
      return None
    return self.value >= self.bar if self.higher_is_better else self.value <= self.bar

  def show(self, value: float | None) -> str:
    """Returns `value` in this score's form."""
    return number(value, self.percent)

  @property
  def interval(self) -> str:
    """The interval for people, or an empty text."""
    if not _finite(self.low, self.high):
      return ""
    low = self.show(self.low).removesuffix("\u00a0%")
    return f"{low} – {self.show(self.high)}"

  @property
  def goal(self) -> str:
    """The bar for people with its direction, or an empty text."""
    if self.bar is None:
      return ""
    return f"{'≥' if self.higher_is_better else '≤'} {self.show(self.bar)}"


def score_table(scores: Sequence[Score]) -> str:
  """Returns scores as aligned lines of text for a terminal."""
  if not scores:
    return "no scores"
  mark = {True: "✓", False: "✗", None: ""}
  head = ("", "score", "value", "95 % interval", "bar", "n", "baselines")
  rows = []
  for score in scores:
    count = "" if score.count is None else number(score.count)
    baselines = ", ".join(f"{k} {score.show(v)}" for k, v in score.baselines.items())
    cells = (score.name, score.show(score.value), score.interval, score.goal)
    rows.append((mark[score.passed], *cells, count, baselines))
  return plain_table(head, rows, left=(0, 1, 6))


def scores(items: Sequence[Score]) -> Html:
  """Returns a table of scores with a small chart of value, interval, bar, baselines."""
  if not items:
    return el("p", "No scores.", class_="empty")
  head = el("tr", (el("th", t) for t in ("", "score", "", "value", "bar")))
  legend = el(
    "p",
    (
      join(el("i", class_=f"key {kind}"), f" {text} ")
      for kind, text in (
        ("value", "value"),
        ("interval", "95 % interval"),
        ("bar", "bar to reach"),
        ("baseline", "baseline"),
      )
    ),
    class_="legend",
  )
  table = el("table", el("thead", head), el("tbody", map(_row, items)), class_="scores")
  return el("div", table, legend, class_="wide")


def verdict(passed: bool | None) -> Html:
  """Returns a tick, a cross, or nothing for None."""
  if passed is None:
    return Html("")
  word = "pass" if passed else "fail"
  return el("b", "✓" if passed else "✗", class_=word, role="img", aria_label=word)


def _row(score: Score) -> Html:
  baselines = " · ".join(f"{k} {score.show(v)}" for k, v in score.baselines.items())
  count = "" if score.count is None else f"n = {number(score.count)}"
  small = " · ".join(filter(None, (score.note, count, baselines)))
  return el(
    "tr",
    el("td", verdict(score.passed)),
    el("th", score.name, el("small", small) if small else None, scope="row"),
    el("td", _bullet(score)),
    el(
      "td",
      el("b", score.show(score.value)),
      el("small", score.interval) if score.interval else None,
      class_="figure",
    ),
    el("td", score.goal, class_="figure"),
  )


def _bullet(score: Score) -> Html:
  references = [score.low, score.high, score.bar, *score.baselines.values()]
  if not score.percent and not any(map(_finite, references)):
    return Html("")  # a length without a scale says nothing
  known = [score.value, *references]
  known = [float(v) for v in known if _finite(v)]
  low, high = (0.0, 1.0) if score.percent else (min([0.0, *known]), 0.0)
  high = max([high, *known])
  high += 0.0 if score.percent else 0.08 * (high - low)
  span = high - low or 1.0

  def at(value):
    return round(220 * min(max((value - low) / span, 0.0), 1.0), 1)

  shapes = [el("rect", x=0, y=8, width=220, height=8, rx=4, class_="track")]
  if _finite(score.value):
    start, end = sorted((at(0.0), at(score.value)))
    state = {True: "pass", False: "fail", None: "open"}[score.passed]
    box = dict(x=start, y=8, width=max(end - start, 2), height=8, rx=4)
    shapes.append(el("rect", class_=f"fill {state}", **box))
  if _finite(score.low, score.high):
    ends = dict(x1=at(score.low), x2=at(score.high))
    shapes.append(el("line", y1=12, y2=12, class_="interval", **ends))
  for name, value in score.baselines.items():
    if _finite(value):
      title = el("title", f"{name} {score.show(value)}")
      shapes.append(el("circle", title, cx=at(value), cy=12, r=3.5, class_="baseline"))
  if _finite(score.bar):
    x = at(score.bar)
    shapes.append(el("line", x1=x, x2=x, y1=2, y2=22, class_="bar"))
  label = f"{score.name}: {score.show(score.value)}"
  if score.interval:
    label += f", interval {score.interval}"
  if score.goal:
    label += f", bar {score.goal}"
  return el(
    "svg", shapes, viewBox="-4 0 228 24", class_="bullet", role="img", aria_label=label
  )


def _finite(*values: float | None) -> bool:
  return all(v is not None and math.isfinite(v) for v in values)
