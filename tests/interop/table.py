"""The table of `make parity`, put into a page.

python -m tests.interop.table FOLDER PAGE

FOLDER is what `run export` and `peers load` have written; PAGE has the two marks.
"""

import json
import math
import pathlib
import sys

from tests.interop import cases
from unijax.commands import systems
from unijax.report import markdown_table

BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"
HEAD = (
  "system", "case", "largest error / largest number", "a mistake moves it by",
  "exported, run by the library",
)  # fmt: skip


def table(found, loaded) -> str:
  """The table between its marks.

  Args:
    found: by case, {"system", "errors": {what: error}, "wrong": {mistake: error}}.
    loaded: by case, the error of what was exported.
  """
  rows = [
    (about["system"], name, listed(about["errors"]), listed(about["wrong"]),
     number(loaded[name]))
    for name, about in found.items()
  ]  # fmt: skip
  return "\n".join([BEGIN, markdown_table(HEAD, rows), END])


def listed(errors) -> str:
  """Errors of several outputs, or mistakes."""
  return ", ".join(f"{what} {number(value)}" for what, value in errors.items())


def number(x: float) -> str:
  """Two digits; 0 where all is equal."""
  if math.isinf(x):
    return "(other shapes)"
  return f"{x:.1e}".replace("e-0", "e-").replace("e+00", "") if x else "0"


def main(folder: str, page: str) -> None:
  """Writes the table of a folder into a page."""
  read = lambda name: json.loads((pathlib.Path(folder) / name).read_text())  # noqa: E731
  found = {name: read(f"{name}.json") for name in cases.everything()}
  systems.put(pathlib.Path(page), table(found, read("loaded.json")))
  print(f"{page}: {len(found)} cases")


if __name__ == "__main__":
  main(*sys.argv[1:])
