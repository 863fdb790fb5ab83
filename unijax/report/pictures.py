"""Pictures with their words: grids, tables over time, questions, edits."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unijax.report.markup import Html, el, picture
from unijax.report.scores import verdict

Pixels = np.ndarray | None  # uint8 [height, width, 3]; None is shown as a gap


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture with what was asked for, and whether it is right (None: not judged)."""

  pixels: Pixels
  caption: str = ""
  passed: bool | None = None
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
  """A question about a picture, the model's answer and the truth."""

  pixels: Pixels
  question: str
  answer: str
  truth: str
  passed: bool | None = None


@dataclasses.dataclass(frozen=True)
class Edit:
  """A picture, what was to change, and what came out."""

  before: Pixels
  instruction: str
  after: Pixels
  passed: bool | None = None
  note: str = ""


def image_grid(items: Sequence[Picture], size: int = 128) -> Html:
  """Returns pictures side by side with captions; `size` is in CSS pixels.

  A small `size` makes a gallery.
  """
  if not items:
    return _nothing()
  cards = (
    el(
      "figure",
      picture(item.pixels, _alt(item.caption, item.passed), size),
      _caption(item.caption, item.passed, item.note),
      class_=_state(item.passed),
      style=f"width:{size}px",
    )
    for item in items
  )
  return el("div", cards, class_="grid")


def picture_table(
  rows: Sequence[str],
  columns: Sequence[str],
  images: Sequence[Sequence[Pixels]],
  *,
  corner: str = "",
  size: int = 80,
) -> Html:
  """Returns a table of pictures.

  For samples over training time a column is a training step; for denoising strips it
  is a solver step or a noise level.

  Args:
    rows: what each row shows, such as its prompt.
    columns: heading of each column.
    images: [row][column], None where there is none; as many as rows and columns.
    corner: what the columns count, such as "step".
    size: width of a picture in CSS pixels.

  Raises:
    ValueError: `images` has not len(rows) rows of len(columns).
  """
  if [len(row) for row in images] != [len(columns)] * len(rows):
    raise ValueError(
      f"report: picture_table needs {len(rows)} rows of {len(columns)} pictures, "
      f"got rows of {[len(row) for row in images]}"
    )
  if not rows or not columns:
    return _nothing()
  head = el("tr", el("th", corner), (el("th", name, scope="col") for name in columns))
  body = (
    el(
      "tr",
      el("th", row, scope="row"),
      (
        el("td", picture(pixels, f"{row}; {corner} {column}", size))
        for column, pixels in zip(columns, line, strict=True)
      ),
    )
    for row, line in zip(rows, images, strict=True)
  )
  inner = el("table", el("thead", head), el("tbody", body), class_="pictures")
  return el("div", inner, class_="wide")


def questions(items: Sequence[Answer], size: int = 96) -> Html:
  """Returns pictures with a question and the answer; the truth too if it differs."""
  if not items:
    return _nothing()
  cards = []
  for item in items:
    right = item.answer == item.truth if item.passed is None else item.passed
    cards.append(
      el(
        "article",
        picture(item.pixels, f"picture asked about: {item.question}", size),
        el(
          "div",
          el("p", item.question, class_="question"),
          el("p", verdict(item.passed), " ", el("q", item.answer), class_="answer"),
          el("p", f"truth: {item.truth}", class_="truth") if not right else None,
        ),
        class_=f"card {_state(item.passed) or ''}",
      )
    )
  return el("div", cards, class_="cards")


def edits(items: Sequence[Edit], size: int = 96) -> Html:
  """Returns pairs of pictures, before and after, under the instruction."""
  if not items:
    return _nothing()
  cards = (
    el(
      "article",
      el("p", verdict(item.passed), " ", item.instruction),
      el(
        "div",
        picture(item.before, f"before: {item.instruction}", size),
        el("span", "→", aria_hidden="true"),
        picture(item.after, _alt(f"after: {item.instruction}", item.passed), size),
      ),
      el("small", item.note) if item.note else None,
      class_=f"card edit {_state(item.passed) or ''}",
    )
    for item in items
  )
  return el("div", cards, class_="cards")


def _caption(caption: str, passed: bool | None, note: str) -> Html | None:
  if not caption and not note and passed is None:
    return None
  small = el("small", note) if note else None
  return el("figcaption", verdict(passed), " ", caption, small)


def _alt(caption: str, passed: bool | None) -> str:
  judged = {True: " (judged right)", False: " (judged wrong)", None: ""}
  return f"{caption or 'picture'}{judged[passed]}"


def _state(passed: bool | None) -> str | None:
  return {True: "passed", False: "failed", None: None}[passed]


def _nothing() -> Html:
  return el("p", "No pictures.", class_="empty")
