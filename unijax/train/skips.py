"""Going back in a run, and batches that it never reads.

`skipped.json` in the run directory lists every rewind with the numbers of the batches
left out since. The batch of a step is the step-th number that is in no skipped range,
so every later start of the run reads the same batches at the same steps.

Ranges are half-open: 120:130 leaves out batches 120 to 129. They count batches, which
are `train/batch` in metrics.jsonl; in a run that skipped nothing so far these are the
numbers of the steps.
"""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.data.loader import Loader
from unijax.disk import write_whole

FILE = "skipped.json"


class Rewind(NamedTuple):
  """A wish: go back to a checkpoint and leave out batches [first, end) from there."""

  step: int
  first: int = 0
  end: int = 0  # equal to first: leave out none


def parse(step: int | None, ranges: str | None) -> Rewind | None:
  """Reads `--rewind=STEP --skip-steps=A:B`; None if neither is given.

  Raises:
    CheckpointError: ranges without a step, or not A:B with A < B.
  """
  if step is None:
    if ranges is not None:
      raise CheckpointError(
        f"--skip-steps={ranges}: say from which checkpoint with --rewind=STEP"
      )
    return None
  if ranges is None:
    return Rewind(step)
  first, _, end = ranges.partition(":")
  if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
    raise CheckpointError(
      f"--skip-steps={ranges}: write A:B with A < B; batches A to B - 1 are left out"
    )
  return Rewind(step, int(first), int(end))


class Skips:
  """Which batch each step reads.

  Args:
    ranges: half-open ranges of batch numbers never read, in any order.
  """

  def __init__(self, ranges: list[tuple[int, int]]):
    self.ranges: list[tuple[int, int]] = []  # in order, apart from each other
    for first, end in sorted(ranges):
      if self.ranges and first <= self.ranges[-1][1]:
        first, before = self.ranges.pop()
        end = max(before, end)
      self.ranges.append((first, end))

  def batch(self, step: int) -> int:
    """Number of the batch that a step reads."""
    number = step
    for first, end in self.ranges:
      if number >= first:
        number += end - first
    return number

  def iterate(
    self, loader: Loader, step: int, part: tuple[int, int] | None = None
  ) -> Iterator[tuple[int, Any]]:
    """Yields (number, batch) from a step on. Close it when done.

    `part` is the rows to read, as in `Loader.iterate`.
    """
    number = self.batch(step)
    stops = [first for first, _ in self.ranges if first > number]
    for stop in [*stops, None]:
      batches = loader.iterate(number, part)
      try:
        while number != stop:
          yield number, next(batches)
          number += 1
      finally:
        if hasattr(batches, "close"):
          batches.close()
      number = dict(self.ranges).get(number, number)


def load(workdir: pathlib.Path) -> Skips:
  """Reads what a run directory leaves out; nothing where there is no file.

  Raises:
    CheckpointError: the file is damaged.
  """
  return Skips(
    [(e["first"], e["end"]) for e in _read(workdir) if e["first"] < e["end"]]
  )


def rewind(workdir: pathlib.Path, wish: Rewind | None) -> str | None:
  """Does what is wished, once, and finishes a rewind that was cut short.

  Checkpoints after the step are moved to `rewound/N/`, with a copy of the metrics as
  they were; the caller resumes, which cuts the metrics back.

  Returns:
    A sentence on what was done, or None.

  Raises:
    CheckpointError: there is no such checkpoint, or the run already read batches that
      are to be left out before it.
  """
  said = None
  if jax.process_index() == 0:
    entries = _read(workdir)
    if wish is not None:
      said = _record(workdir, entries, wish)
    _finish(workdir, entries)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("rewind")
  return said


def _record(workdir: pathlib.Path, entries: list[dict], wish: Rewind) -> str:
  """Checks the wish and writes it down, to be done by `_finish`."""
  named = f"--rewind={wish.step}"
  if wish.first < wish.end:
    named += f" --skip-steps={wish.first}:{wish.end}"
  if any((e["rewind"], e["first"], e["end"]) == wish for e in entries):
    # A supervisor repeats the whole command after every stop.
    return f"{named} is already done (see {FILE}): going on from the last checkpoint"
  store = Store(workdir, read_only=True)
  steps = store.steps()
  store.close()
  if wish.step not in steps:
    raise CheckpointError(f"--rewind={wish.step}: {workdir} has checkpoints {steps}")
  read = load(workdir).batch(wish.step)
  if wish.first < wish.end and wish.first < read:
    raise CheckpointError(
      f"{named}: step {wish.step} comes after batch {wish.first}. Rewind to a "
      f"checkpoint at or before it; those there are: {steps}"
    )
  entry = {"rewind": wish.step, "first": wish.first, "end": wish.end, "done": False}
  entries.append(entry)
  _write(workdir, entries)
  later = [s for s in steps if s > wish.step]
  return f"{named}: checkpoints {later} are now in rewound/{len(entries)}"


def _finish(workdir: pathlib.Path, entries: list[dict]) -> None:
  """Moves away what comes after each step rewound to, unless that is done."""
  for number, entry in enumerate(entries, 1):
    if entry["done"]:
      continue
    aside = workdir / "rewound" / str(number)
    aside.mkdir(parents=True, exist_ok=True)
    if (workdir / "metrics.jsonl").exists():
      shutil.copy(workdir / "metrics.jsonl", aside)
    for path in (workdir / "checkpoints").iterdir():
      if path.name.isdecimal() and int(path.name) > entry["rewind"]:
        path.rename(aside / path.name)
    entry["done"] = True
    _write(workdir, entries)


def _read(workdir: pathlib.Path) -> list[dict]:
  path = workdir / FILE
  if not path.exists():
    return []
  try:
    entries = json.loads(path.read_text())["rewinds"]
    assert all(type(e[k]) is int for e in entries for k in ("rewind", "first", "end"))
    assert all(type(e["done"]) is bool for e in entries)
  except (ValueError, KeyError, TypeError, AssertionError) as error:
    raise CheckpointError(
      f"{path} is damaged, and without it the run would read other batches: mend it, "
      "or remove it if the run was never rewound"
    ) from error
  return entries


def _write(workdir: pathlib.Path, entries: list[dict]) -> None:
  write_whole(workdir / FILE, json.dumps({"rewinds": entries}, indent=1) + "\n")
