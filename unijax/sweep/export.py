"""The results of a sweep as JSON or CSV, for other programs, or as Markdown."""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from unijax.disk import write_whole
from unijax.sweep import sheet, table
from unijax.sweep.trials import Found

SUFFIXES = (".json", ".csv", ".md")
FACTS = ("steps", "flops", "flops_per_step", "parameters")


def write(path: pathlib.Path, found: Sequence[Found], about: Mapping[str, Any]) -> None:
  """Writes a file of one of `SUFFIXES`.

  JSON has `sweep` (what sweep.json says), `points` (means, intervals, differences) and
  `trials`; CSV a line a trial: its facts, the knobs that are swept, its scores;
  Markdown the tables, with a figure and pictures in files beside (`sheet`).
  """
  if path.suffix == ".md":
    sheet.write(path, found, about)
    return
  if path.suffix == ".csv":
    write_whole(path, as_csv(found))
    return
  content = {
    "sweep": dict(about), "points": table.plain_rows(found),
    "trials": [_facts(f) | {"scores": table.scores_of(f)} for f in found],
  }  # fmt: skip
  write_whole(path, json.dumps(content, indent=1) + "\n")


def as_csv(found: Sequence[Found]) -> str:
  """One line a trial, with a head; a knob that is swept is the column point.PATH."""
  lines = []
  for f in found:
    facts = _facts(f)
    point = {f"point.{path}": _cell(x) for path, x in facts.pop("point").items()}
    lines.append((facts, point, table.scores_of(f)))
  columns = [list(dict.fromkeys(k for x in lines for k in x[i])) for i in range(3)]
  file = io.StringIO()
  writer = csv.DictWriter(file, sum(columns, []), restval="", lineterminator="\n")
  writer.writeheader()
  writer.writerows({**facts, **point, **scores} for facts, point, scores in lines)
  return file.getvalue()


def _cell(value: Any) -> str:
  return value if isinstance(value, str) else json.dumps(value)


def _facts(f: Found) -> dict[str, Any]:
  counted = {**f.trial.counted, **f.result}
  return {
    "name": f.trial.name, "label": f.trial.label, "seed": f.trial.seed,
    "state": f.state, "error": f.error,
    **{fact: counted.get(fact, "") for fact in FACTS}, "point": dict(f.trial.point),
  }  # fmt: skip
