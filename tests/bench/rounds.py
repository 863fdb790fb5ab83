"""What both sides of the bench share: the workload, and rounds on request.

Each side is a process that builds its model, warms every figure up, prints one JSON
line about itself and then waits: for each line on stdin that names a figure it
measures that figure once and prints one JSON line. `run.py` asks the sides in turn,
so that a change of the machine's speed meets both. By hand:

  printf 'train\ntrain\nsample_1\n' | python tests/bench/peer.py --width 256

Only the standard library is imported here: the sides live in different environments.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable


class Arguments:
  """Base of workloads, frozen dataclasses: a field's help is its metadata."""

  def arguments(self) -> list[str]:
    """The command line that `parse` reads back."""
    return [f"--{k}={v}" for k, v in dataclasses.asdict(self).items()]


@dataclasses.dataclass(frozen=True)
class Workload(Arguments):
  """The same work for both sides."""

  width: int = dataclasses.field(default=256, metadata={"help": "of the residual"})
  depth: int = dataclasses.field(default=4, metadata={"help": "number of layers"})
  heads: int = dataclasses.field(default=4, metadata={"help": "of width / heads each"})
  length: int = dataclasses.field(default=256, metadata={"help": "positions of a row"})
  images: int = dataclasses.field(default=2, metadata={"help": "in a row"})
  grid: int = dataclasses.field(default=8, metadata={"help": "patches a side"})
  channels: int = dataclasses.field(default=48, metadata={"help": "of a patch"})
  vocab: int = dataclasses.field(default=256, metadata={"help": "text tokens"})
  batch: int = dataclasses.field(default=16, metadata={"help": "rows of an update"})
  updates: int = dataclasses.field(default=4, metadata={"help": "in a round"})
  prompt: int = dataclasses.field(default=16, metadata={"help": "tokens of a prompt"})
  text: int = dataclasses.field(
    default=16, metadata={"help": "tokens written before and after the image"}
  )
  solver: int = dataclasses.field(
    default=16, metadata={"help": "network evaluations that draw the image"}
  )
  threads: int = dataclasses.field(default=2, metadata={"help": "CPU threads"})

  @property
  def patches(self) -> int:
    """Of one image."""
    return self.grid**2


def add_arguments(parser: argparse.ArgumentParser, of: type = Workload) -> None:
  """Adds one option for each field of a workload."""
  for field in dataclasses.fields(of):
    parser.add_argument(
      f"--{field.name}",
      type=field.type,
      default=field.default,
      help=f"{field.metadata['help']} (default {field.default})",
    )


def parse(options: argparse.Namespace, of: type = Workload):
  """Returns the workload of parsed options."""
  names = [field.name for field in dataclasses.fields(of)]
  return of(**{name: getattr(options, name) for name in names})


def timed(work: Callable[[], object]) -> float:
  """Runs `work` once and returns the seconds it took."""
  start = time.perf_counter()
  work()
  return time.perf_counter() - start


def serve(about: dict, figures: dict[str, Callable[[], float]]) -> None:
  """Warms up, introduces itself, then measures what stdin asks for until it ends.

  Args:
    about: what this side is: versions, parameters, sizes.
    figures: name -> function that does the work once and returns the figure.
  """
  for measure in figures.values():
    measure()
    measure()
  print(json.dumps({**about, "figures": list(figures)}), flush=True)
  for line in sys.stdin:
    name = line.strip()
    if name not in figures:
      raise SystemExit(f"unknown figure {name!r}; known: {', '.join(figures)}")
    print(json.dumps({"figure": name, "value": figures[name]()}), flush=True)
