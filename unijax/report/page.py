"""One HTML file with everything inside: style, charts and pictures; no script."""

import dataclasses
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from unijax.disk import write_whole
from unijax.report.markup import Html, el, join

# The browser itself refuses anything that is not in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page: a heading and the blocks under it.

  Attributes:
    title: heading, also shown in the contents.
    blocks: markup made by the functions of this package.
    lead: one or two sentences under the heading: what is seen, how it was made.
  """

  title: str
  blocks: Sequence[Html]
  lead: str = ""


@dataclasses.dataclass(frozen=True)
class ReportContent:
  """All that a report shows.

  Attributes:
    title: name of the page.
    lead: one or two sentences on what was run.
    summary: blocks above the first section, such as `tiles`.
    sections: the parts, in order.
  """

  title: str
  sections: Sequence[Section]
  lead: str = ""
  summary: Sequence[Html] = ()


def build_report(path: Path | str, content: ReportContent) -> Path:
  """Writes the page and returns its path.

  The file appears whole or not at all: it is written beside `path` and renamed.

  Args:
    path: file to write; folders are created.
    content: what to show.
  """
  path = Path(path)
  write_whole(path, render(content))
  return path


def render(content: ReportContent) -> str:
  """Returns the page as text."""
  style = importlib.resources.files("unijax.report").joinpath("style.css").read_text()
  names = [f"part-{i}" for i, _ in enumerate(content.sections, 1)]
  parts = list(zip(names, content.sections, strict=True))
  contents = (el("li", el("a", part.title, href=f"#{name}")) for name, part in parts)
  header = el(
    "header",
    el("h1", content.title),
    el("p", content.lead, class_="lead") if content.lead else None,
    content.summary,
  )
  head = el(
    "head",
    el("meta", charset="utf-8"),
    el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
    el("meta", name="viewport", content="width=device-width, initial-scale=1"),
    el("meta", name="color-scheme", content="light dark"),
    el("title", content.title),
    el("style", Html(style)),
  )
  body = el(
    "body",
    el("nav", el("ol", contents), aria_label="contents") if parts else None,
    el("main", header, (_section(name, part) for name, part in parts)),
  )
  return join(Html("<!doctype html>\n"), el("html", head, body, lang="en"), "\n")


def _section(name: str, part: Section) -> Html:
  lead = el("p", part.lead, class_="lead") if part.lead else None
  return el("section", el("h2", part.title), lead, part.blocks, id=name)
