"""`unijax goodput`: where the time of a run went."""

import argparse
import pathlib

from unijax.checkpoint.errors import CheckpointError
from unijax.report import plain_table
from unijax.train import events
from unijax.train.progress import duration

MEANING = {
  **events.SPANS,
  events.LOST: "steps done again after a restart, and what was done between them",
  events.DOWN: "between the last line of a process and the start of the next",
}


def run(args: argparse.Namespace) -> dict:
  """Prints the account of a run; returns it.

  Raises:
    CheckpointError: the directory has no events.jsonl.
  """
  lines = events.read(pathlib.Path(args.workdir))
  if not any(line["event"] == "start" for line in lines):
    raise CheckpointError(
      f"{args.workdir} has no events.jsonl with a start: `unijax train` writes it"
    )
  found = events.account(lines)
  print(table(found))
  seconds = {name: round(value, 3) for name, value in found.pop("seconds").items()}
  figures = {k: round(v, 4) if type(v) is float else v for k, v in found.items()}
  return {"verb": "goodput", "workdir": args.workdir, **figures, "seconds": seconds}


def table(found: dict) -> str:
  """The account as lines of text, the largest share first."""
  wall = max(found["wall_seconds"], 1e-9)
  spent = sorted(found["seconds"].items(), key=lambda x: -x[1])
  rows = [(name, seconds, MEANING[name]) for name, seconds in spent]
  rows.append(("sum", sum(found["seconds"].values()), f"of {duration(wall)}"))
  lines = plain_table(
    ["", "seconds", "share", ""],
    [[name, f"{s:.1f}", f"{s / wall:.1%}", text] for name, s, text in rows],
    left=(0, 3),
  )
  return (
    f"{lines}\n{found['steps']} steps kept, {found['lost_steps']} done again, "
    f"{found['starts'] - 1} restarts; goodput {found['goodput']:.1%}"
  )
