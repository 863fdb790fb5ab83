"""The page of a sweep: tables, score against compute, curves, pictures side by side."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from unijax import report
from unijax.evals import compare_page
from unijax.evals.figures import lower
from unijax.report import Html, Section, Series
from unijax.sweep import statistics, table
from unijax.sweep.points import SEED
from unijax.sweep.trials import Found
from unijax.train.metrics import read_metrics

LINES = 6  # of a chart
COLUMNS = 12  # points in a table of pictures
LOSSES = ("train/loss", "train/text_nll", "train/image_mse", "train/image_nll",
          "train/image_error")  # fmt: skip
SCORES = "quick/"  # before what a run measures while it trains
CURVES = (
  "A line is the best of all points of up to so many FLOPs, means over seeds; dots are "
  "the points. FLOPs are those of training, forward and backward."
)


def write(path: pathlib.Path, found: Sequence[Found], about: Mapping[str, Any]) -> None:
  """Writes one HTML file with everything in it.

  Args:
    path: of the file.
    found: the trials.
    about: what sweep.json says.
  """
  rows, names = table.rows(found), table.names(found, about.get("scores", ()))
  sections = []
  for name in names:
    made = [table.cells(row, name) for row in rows]
    sections.append(Section(table.title(name), [report.table(table.HEAD, made)]))
  charts = [_against_compute(rows, name, about.get("curves", "")) for name in names]
  if any(charts):
    blocks = [report.columns(*filter(None, charts))]
    sections.append(Section("Score against compute", blocks, lead=CURVES))
  followed = [(f, read_metrics(f.folder)) for f in found]
  scored = sorted(
    {k for _, x in followed for m in x for k in m if k.startswith(SCORES)}
  )
  for title, wanted in (("Losses", LOSSES), ("Scores while training", scored)):
    if charts := _curves(followed, wanted):
      sections.append(Section(title, [report.columns(*charts)], lead=_seeds(found)))
  sections += _pictures(found)
  if failed := table.failures(found):
    sections.append(Section("Failed", [report.text(*failed)]))
  sections.append(Section("Trials", [_trials(found)]))
  title = f"Sweep of {about.get('file') or 'a study'}"
  summary = [report.text(*filter(None, about.get("about", "").split("\n\n")))]
  content = report.ReportContent(title, sections, lead=table.NOTE, summary=summary)
  report.build_report(path, content)


def _against_compute(rows: Sequence[table.Row], name: str, path: str) -> Html | None:
  """A chart of one score over FLOPs, a line for each value of a path.

  None where all cost the same.
  """
  some = [row for row in rows if name in row.scores and row.flops is not None]
  if len({row.flops for row in some}) < 2:
    return None
  lines: list[Series] = []
  values = dict.fromkeys(str(row.point.get(path, "")) for row in some)
  for value in values:
    here = [row for row in some if str(row.point.get(path, "")) == value]
    sign = -1.0 if lower(name) else 1.0
    at = [(row.flops, sign * row.scores[name].mean) for row in here]
    best = [at[i] for i in statistics.front(at)]
    label = value.removeprefix("configs/") or "best"
    lines.append(Series(label, [x for x, _ in best], [sign * y for _, y in best]))
    x, y = [], []
    for cost, score in at:  # a point between two gaps is a dot
      x += [cost, cost]
      y += [sign * score, float("nan")]
    lines.append(Series(f"{label}: points", x, y))
  return report.line_chart(table.title(name), lines, x_label="FLOPs", log_x=True)


def _seeds(found: Sequence[Found]) -> str:
  many = len({f.trial.seed for f in found}) > 1
  return "Means over the seeds that have reached a step." if many else ""


def _curves(followed, wanted: Sequence[str]) -> list[Html]:
  """A chart for each metric, of at most LINES points, over training FLOPs or steps."""
  counted = all(_step_cost(f) for f, metrics in followed if metrics)
  label, charts = "FLOPs" if counted else "step", []
  for name in wanted:
    groups: dict[str, tuple[str, dict[float, list[float]]]] = {}
    for f, metrics in followed:
      _, points = groups.setdefault(f.trial.group, (f.trial.label, {}))
      for m in metrics:
        if m.get(name) is not None:
          x = m["step"] * (_step_cost(f) if counted else 1)
          points.setdefault(x, []).append(m[name])
    lines = [
      Series(name, sorted(at), [sum(at[x]) / len(at[x]) for x in sorted(at)])
      for name, at in groups.values()
      if at
    ]
    charts += [
      report.line_chart(name, some, x_label=label, log_y=name in LOSSES)
      for some in (lines[i : i + LINES] for i in range(0, len(lines), LINES))
    ]
  return charts


def _step_cost(f: Found) -> float:
  """FLOPs of a step of a trial; 0 where they are not counted yet."""
  counted = f.result or f.trial.counted
  return float(counted.get("flops_per_step", 0.0))


def _pictures(found: Sequence[Found]):
  """What the first scored trial of each point drew, the same captions in a row."""
  first: dict[str, Found] = {}
  for f in found:
    if f.state == "done" and f.result.get("drawn"):
      first.setdefault(f.trial.group, f)
  by_words: dict[tuple, list[Found]] = {}
  for f in first.values():
    by_words.setdefault(tuple(f.result["words"]), []).append(f)
  for words, some in by_words.items():
    for i in range(0, len(some), COLUMNS):
      part = some[i : i + COLUMNS]
      columns = [
        compare_page.strip(f.folder / f.result["drawn"], len(words)) for f in part
      ]
      images = [[pictures[k] for pictures in columns] for k in range(len(words))]
      labels = [f.trial.label for f in part]
      drawn = report.picture_table(words, labels, images, size=64)
      yield Section(
        "Pictures", [drawn],
        lead="The first of those that are scored, of the first seed; none is chosen.",
      )  # fmt: skip


def _trials(found: Sequence[Found]) -> Html:
  head = ("run folder", "point", SEED, "state")
  made = [[f.trial.name, f.trial.label, str(f.trial.seed), f.state] for f in found]
  return report.table(head, made)
