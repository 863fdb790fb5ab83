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

BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"
HEAD = (
  "system", "case", "largest error / largest number", "a mistake moves it by",
  "exported, run by the library",
)  # fmt: skip


def lines(found, loaded) -> list[str]:
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
  return [BEGIN, *systems.table_lines(HEAD, rows), END]


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
  made = lines(found, read("loaded.json"))
  systems.put(pathlib.Path(page), "\n".join(made))
  print(f"{page}: {len(made) - 4} cases")


if __name__ == "__main__":
  main(*sys.argv[1:])
