"""The results of a sweep for a repository: Markdown with a figure and pictures beside.

NAME.md has the question, the command, the tables; NAME.svg the figure (`figure`);
NAME.png what the first seed of each point drew.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from unijax.disk import write_whole
from unijax.evals import compare_page, compare_sheet
from unijax.report import markdown_table
from unijax.sweep import figure, table
from unijax.sweep.trials import Found


def write(path: pathlib.Path, found: Sequence[Found], about: Mapping[str, Any]) -> None:
  """Writes NAME.md and the files that it shows.

  Args:
    path: of the Markdown file.
    found: the trials.
    about: what sweep.json says.
  """
  rows, names = table.rows(found), table.names(found, about.get("scores", ()))
  seeds: dict[str, dict[str, list[float]]] = {}
  for f in found:
    for name, value in table.scores_of(f).items():
      seeds.setdefault(f.trial.group, {}).setdefault(name, []).append(value)
  drawing = path.with_suffix(".svg")
  write_whole(drawing, figure.svg(rows, names, seeds, about.get("curves", "")))
  said = about.get("about", "").strip().splitlines()
  said = "\n".join(f"  {x}" if x[:2] == "  " else x for x in said)  # code in Markdown
  parts = [f"# {path.stem}", said, _command(found, about)]
  parts.append(f"![Scores]({drawing.name})")
  if groups := _drawn(found):
    pictures = path.with_suffix(".png")
    compare_sheet.draw(groups).save(pictures)
    parts.append(f"![Pictures of the first seed]({pictures.name})")
  for name in names:
    lines = [table.cells(row, name) for row in rows]
    parts.append(f"## {table.title(name)}\n\n{markdown_table(table.HEAD, lines)}")
  if lines := table.failures(found):
    parts.append("\n".join(["## Failed", "", *(f"- {line}" for line in lines)]))
  write_whole(path, "\n\n".join([*filter(None, parts), table.NOTE]) + "\n")


def _command(found: Sequence[Found], about: Mapping[str, Any]) -> str:
  """What trained and scored these trials, but for the folder and the slots."""
  study = ":".join(filter(None, (about.get("file"), about.get("preset"))))
  words = ["unijax sweep run", study, f"--seeds={len({f.trial.seed for f in found})}"]
  if about.get("flops"):
    words.append(f"--flops={about['flops']:g}")
  prompts = {f.trial.key.rpartition("-")[2] for f in found}
  words += [f"--eval-prompts={n}" for n in sorted(prompts) if n.isdigit()]
  done = sum(f.state == "done" for f in found)
  command = " ".join([*words, *about.get("overrides", ())])
  return f"{done} of {len(found)} trials are done; made by\n\n    {command}"


def _drawn(found: Sequence[Found]):
  """Groups of `compare_sheet.draw`: the first scored trial of each point."""
  first: dict[str, Found] = {}
  for f in found:
    if f.state == "done" and f.result.get("drawn"):
      first.setdefault(f.trial.group, f)
  groups: dict[tuple, list[Found]] = {}
  for f in first.values():
    groups.setdefault(tuple(f.result["words"]), []).append(f)
  return [
    (
      [{**f.result, "name": f.trial.label} for f in some],
      [
        (f.trial.label, compare_page.strip(f.folder / f.result["drawn"], len(words)))
        for f in some
      ],
    )
    for words, some in groups.items()
  ]
