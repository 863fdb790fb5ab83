"""What a comparison shows: tables by task, loss curves, pictures side by side."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture

from unijax import report
from unijax.disk import write_whole
from unijax.evals import compare_sheet, figures
from unijax.report import Section, Series
from unijax.train.metrics import read_metrics

TITLES = {
  "unified": "Understand and draw", "drawing": "Understand and draw",
  "codec": "Codecs", "decoder": "Codecs", "alignment": "Encoders",
}  # fmt: skip
_PARTS = ("text_nll", "image_mse", "image_nll", "image_error")  # no sum of all systems
LOSSES = {"unified": _PARTS, "drawing": _PARTS}
LINES = 6  # of a chart of losses
MINUS = "–"


@dataclasses.dataclass(frozen=True)
class Table:
  """The systems of one kind of task.

  Attributes:
    title: what they do.
    head: titles of the columns.
    rows: of words, a system each.
    systems: whole results, in parallel.
  """

  title: str
  head: list[str]
  rows: list[list[str]]
  systems: list[dict]


def tables(found: dict) -> list[Table]:
  """One for each kind of task, with the best of each column marked by a star."""
  made = []
  done = [x for x in found["systems"] if "error" not in x]
  for title in dict.fromkeys(TITLES.values()):
    systems = [x for x in done if TITLES[x["task"]] == title]
    if systems:
      made.append(_table(title, systems))
  return made


def _table(title: str, systems: list[dict]) -> Table:
  names = list(dict.fromkeys(n for x in systems for n in x["scores"]))
  best = {}
  for name in names:
    values = [x["scores"][name][0] for x in systems if name in x["scores"]]
    tied = len(set(values)) == 1
    best[name] = None if tied else (min if figures.lower(name) else max)(values)
  head = ["system", "parameters", "steps", "FLOPs", "seconds", *names]
  rows = [
    [
      x["name"], f"{x['parameters'] / 1e6:.2f} M", f"{x['steps']:,}",
      f"{x['flops']:.2e}", f"{x['seconds']['training']:.0f}",
      *(_cell(name, x["scores"].get(name), best[name]) for name in names),
    ]
    for x in systems
  ]  # fmt: skip
  return Table(title, head, [*rows, *_stand_in(names, systems)], systems)


def _stand_in(names: list[str], systems: list[dict]) -> list[list[str]]:
  """What guessing without a look scores on the same items, where that was measured."""
  guess = next((x["about"]["guess"] for x in systems if x["about"].get("guess")), {})
  cells = [_cell(n, [guess[n]] if n in guess else None, None) for n in names]
  return [["guessing", "", "", "", "", *cells]] if guess else []


def _cell(name: str, values: Sequence[float] | None, best: float | None) -> str:
  """'*81.0 % (73.0–88.0)'; the star is the best of the column."""
  if values is None:
    return ""
  value, *ends = (figures.show(name, v) for v in values)
  text = ("*" if values[0] == best else "") + value
  text += " %" if figures.share(name) else ""
  if len(ends) == 2:
    text += f" ({ends[0]}{MINUS}{ends[1]})"
  return text


def markdown(found: dict) -> str:
  """The tables and what failed, as Markdown."""
  lines = [_lead(found)]
  for table in tables(found):
    lines += ["", f"**{table.title}**", ""]
    rules = ["---", *["---:"] * (len(table.head) - 1)]
    rows = [[x.replace("*", "\\*") for x in row] for row in table.rows]
    lines += [f"| {' | '.join(row)} |" for row in (table.head, rules, *rows)]
  failed = [x for x in found["systems"] if "error" in x]
  if failed:
    lines += ["", "**Failed**", ""]
    lines += [f"- {x['name']}: {x['error']}" for x in failed]
  return "\n".join(lines) + "\n"


def _lead(found: dict) -> str:
  other = f" With {' '.join(found['overrides'])}." if found["overrides"] else ""
  return (
    f"Every system was trained for {found['flops']:.2e} FLOPs (forward and backward, "
    f"counted from its traced step) and scored on {found['prompts']} items a task; in "
    "brackets the 95 % bootstrap interval over items, which knows nothing of other "
    "seeds; * is the best of a column. Scenes: iid is held out, combo has pairs of "
    f"colour and shape that training never shows.{other}"
  )


def write(place: pathlib.Path, folder: pathlib.Path, found: dict) -> None:
  """Writes compare.md, index.html and compare.png.

  Args:
    place: folder for them.
    folder: where the run folders are.
    found: as `compare.run` returns it.
  """
  write_whole(place / "compare.md", markdown(found))
  sections = []
  for table in tables(found):
    blocks = [report.table(table.head, table.rows)]
    sections.append(Section(table.title, blocks))
    sections += _pictures(table, folder)
    sections += _said(table, folder)
    sections.append(Section(f"Losses: {table.title.lower()}", _curves(table, folder)))
  failed = [(x["name"], x["error"]) for x in found["systems"] if "error" in x]
  if failed:
    blocks = [report.table(("system", "error"), failed)]
    sections.append(Section("Failed", blocks))
  content = report.ReportContent("Systems compared", sections, lead=_lead(found))
  report.build_report(place / "index.html", content)
  shown = [x for x in found["systems"] if x.get("drawn")]
  groups = [g for t in tables(found) for g in _groups(t.systems, folder)]
  if shown:
    sheet = compare_sheet.draw([(g, _loaded(g, folder)) for g in groups])
    sheet.save(place / "compare.png")


def strip(path: pathlib.Path, count: int) -> list[np.ndarray]:
  """The pictures of a file that has `count` of them side by side."""
  pixels = np.asarray(Picture.open(path).convert("RGB"))
  return np.split(pixels, count, axis=1)


def _loaded(systems: list[dict], folder: pathlib.Path) -> list[tuple[str, list]]:
  """(label, pictures) of each row of a sheet; originals first."""
  count = len(systems[0]["words"])
  rows = [(x["name"], strip(folder / x["name"] / x["drawn"], count)) for x in systems]
  if systems[0]["originals"]:
    first = folder / systems[0]["name"] / systems[0]["originals"]
    rows.insert(0, ("original", strip(first, count)))
  return rows


def _groups(systems: list[dict], folder: pathlib.Path) -> list[list[dict]]:
  """Systems that were asked for the same pictures, in groups."""

  def key(x):
    same = (folder / x["name"] / x["originals"]).read_bytes() if x["originals"] else b""
    return (x["words"], same)

  drawn = [x for x in systems if x["drawn"]]
  return [list(g) for _, g in itertools.groupby(sorted(drawn, key=key), key=key)]


def _pictures(table: Table, folder: pathlib.Path):
  """One column a system."""
  for group in _groups(table.systems, folder):
    columns = _loaded(group, folder)
    words = group[0]["words"]
    images = [[pictures[i] for _, pictures in columns] for i in range(len(words))]
    drawn = report.picture_table(words, [n for n, _ in columns], images, size=80)
    lead = (
      "Held-out pictures, and what each codec makes of them."
      if group[0]["originals"]
      else "The same captions, none chosen by hand; the first of those that are scored."
    )
    yield Section(f"Pictures: {table.title.lower()}", [drawn], lead=lead)


def _said(table: Table, folder: pathlib.Path):
  """The pictures that were read, and a row of answers for each system."""
  speak = [x for x in table.systems if x["said"]]
  asked_of = lambda x: [y["asked"] for y in x["said"]]  # noqa: E731
  for asked, group in itertools.groupby(sorted(speak, key=asked_of), key=asked_of):
    systems = list(group)
    said = systems[0]["said"]
    pixels = strip(folder / systems[0]["name"] / systems[0]["read"], len(said))
    shown = [
      report.Picture(p, f"{i + 1}. {x['asked']}", note=x["truth"])
      for i, (p, x) in enumerate(zip(pixels, said, strict=True))
    ]
    rows = [
      [x["name"], *(f"{'✓' if y['exact'] else '✗'} {y['answer']}" for y in x["said"])]
      for x in systems
    ]
    head = ["system", *(str(i + 1) for i in range(len(asked)))]
    yield Section(
      "Answers", [report.image_grid(shown, size=96), report.table(head, rows)]
    )


def _curves(table: Table, folder: pathlib.Path):
  """A chart a loss, of at most LINES systems, over FLOPs."""
  lines: dict[str, list[Series]] = {}
  for x in table.systems:
    metrics = read_metrics(folder / x["name"])
    for name in LOSSES.get(x["task"], ("loss",)):
      points = [
        (m["step"] * x["flops_per_step"], m[f"train/{name}"])
        for m in metrics
        if m.get(f"train/{name}") is not None
      ]
      if points:
        series = Series(x["name"], *map(list, zip(*points, strict=True)))
        lines.setdefault(name, []).append(series)
  charts = [
    report.line_chart(name, some, x_label="FLOPs", log_y=True)
    for name, series in lines.items()
    for some in (series[i : i + LINES] for i in range(0, len(series), LINES))
  ]
  return [report.columns(*charts)]
