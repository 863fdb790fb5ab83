"""`unijax goodput`: where the time of a run went."""

import argparse
import pathlib

from unijax.checkpoint.store import CheckpointError
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
  lines = [f"{'':11s} {'seconds':>11s}  share"]
  for name, spent in sorted(found["seconds"].items(), key=lambda x: -x[1]):
    lines.append(f"{name:11s} {spent:11.1f} {spent / wall:6.1%}  {MEANING[name]}")
  total = sum(found["seconds"].values())
  lines.append(f"{'sum':11s} {total:11.1f} {total / wall:6.1%}  of {duration(wall)}")
  lines.append(
    f"{found['steps']} steps kept, {found['lost_steps']} done again, "
    f"{found['starts'] - 1} restarts; goodput {found['goodput']:.1%}"
  )
  return "\n".join(lines)
