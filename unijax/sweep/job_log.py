"""What the output of a job says: its result, or what went wrong."""

import json
import os
import pathlib
import re
from typing import Any

TAIL = 65536  # bytes at the end of a log that are read


def _tail(path: pathlib.Path) -> str:
  try:
    with path.open("rb") as file:
      file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
      return file.read().decode(errors="replace")
  except OSError:
    return ""


def result(log: pathlib.Path) -> dict[str, Any]:
  """What the last line RESULT of a log says."""
  lines = [x for x in _tail(log).splitlines() if x.startswith("RESULT ")]
  try:
    return json.loads(lines[-1].removeprefix("RESULT ")) if lines else {}
  except ValueError:
    return {}


def error(log: pathlib.Path, code: int | None) -> str:
  """The message of a failed verb on one line, else the last line; with its code."""
  text = _tail(log).rpartition("--- attempt ")[2].partition("\n")[2]
  said = re.split(r"^unijax: ", text, flags=re.MULTILINE)
  last = said[-1] if len(said) > 1 else (text.strip().splitlines() or [""])[-1]
  how = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
  line = " ".join(f"{how}: {last or 'nothing said'}".split())
  return line if len(line) < 400 else line[:397] + "..."
