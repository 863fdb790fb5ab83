"""Words and tables: paragraphs, tiles of figures, key-value tables, folded details."""

from collections.abc import Mapping, Sequence

from unijax.report.markup import Html, el, join, number


def text(*paragraphs: str) -> Html:
  """Returns paragraphs of plain text."""
  return join(el("p", paragraph) for paragraph in paragraphs)


def tiles(figures: Sequence[tuple[str, float | str, str]]) -> Html:
  """Returns figures in large print.

  Args:
    figures: (name, value, unit or remark) each; numbers are rounded for reading.
  """
  return el(
    "dl",
    (
      el("div", el("dt", name), el("dd", _value(value), el("small", remark)))
      for name, value, remark in figures
    ),
    class_="tiles",
  )


def key_values(values: Mapping[str, object], title: str = "") -> Html:
  """Returns a table of two columns, such as versions or sizes."""
  rows = (
    el("tr", el("th", key, scope="row"), el("td", _value(value)))
    for key, value in values.items()
  )
  caption = el("caption", title) if title else None
  return el("table", caption, el("tbody", rows), class_="pairs")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
  """Returns a table; numbers are aligned to the right."""
  if not rows:
    return el("p", "No rows.", class_="empty")

  def cell(value):
    return el("td", _value(value), class_=None if isinstance(value, str) else "figure")

  body = (el("tr", map(cell, row)) for row in rows)
  header = el("thead", el("tr", (el("th", name) for name in head)))
  return el("div", el("table", header, el("tbody", body)), class_="wide")


def details(summary: str, *blocks: Html) -> Html:
  """Returns blocks that open when `summary` is clicked."""
  return el("details", el("summary", summary), blocks)


def config(values: Mapping[str, object], summary: str = "Configuration") -> Html:
  """Returns a nested mapping, folded, as lines of `dotted.path = value`."""
  lines = [
    join(el("span", path), f" = {value!r}\n") for path, value in _leaves(values, "")
  ]
  return details(summary, el("pre", lines or "empty"))


def _leaves(values: Mapping[str, object], prefix: str):
  for key, value in values.items():
    if isinstance(value, Mapping) and value:
      yield from _leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def _value(value: object) -> str:
  if isinstance(value, bool) or value is None:
    return {True: "yes", False: "no", None: "none"}[value]
  return number(value) if isinstance(value, int | float) else str(value)
