"""Writes the trials of a study and has the pool of this machine run them.

A driver keeps nothing: whatever kills it, the run folders say what is left to do, and
the next one does it. ROOT/sweep.json only says what the tables are about.
"""

import dataclasses
import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unijax.disk import write_whole
from unijax.errors import ConfigError
from unijax.sweep import trials
from unijax.sweep.jobs import JobSpec, Resources
from unijax.sweep.pool import RECORD, Outcome, Pool
from unijax.sweep.study import Study, plan
from unijax.sweep.trials import Found, Trial

SWEEP = "sweep.json"
SAME = ("preset", "flops", "overrides")  # of all trials below one folder


def planned(
  study: Study, overrides: Sequence[str], *, flops: float | None, seeds: int,
  prompts: int,
) -> list[Trial]:  # fmt: skip
  """The trials of a study, scored and counted as `unijax compare` does.

  Args:
    study: whose points they are.
    overrides: `--config.a.b=value` for all points.
    flops: of each training; None leaves the steps of the points.
    seeds: of each point.
    prompts: scored of each task and split.

  Raises:
    ConfigError: as `study.plan`.
  """
  from unijax.evals import compare_one  # loads JAX

  return plan(
    study, flops=flops, seeds=seeds, prompts=prompts, overrides=overrides,
    key=f"{compare_one.VERSION}-{prompts}", budget=compare_one.budget,
  )  # fmt: skip


def describe(study: Study, flops: float | None, overrides: Sequence[str]) -> dict:
  """What sweep.json says of a sweep."""
  about = dataclasses.asdict(study)
  points = about.pop("points")
  return {
    **about, "points": len(points), "flops": flops, "overrides": list(overrides),
  }  # fmt: skip


def prepare(
  root: pathlib.Path, about: Mapping[str, Any], wanted: Sequence[Trial]
) -> list[str]:
  """Writes sweep.json and a folder for each trial; what was trained stays.

  Returns:
    Names of trials in this folder that the study has no more.

  Raises:
    ConfigError: the folder holds a sweep of other FLOPs, overrides or preset, whose
      rows would have the same labels.
  """
  before = read_about(root)
  for name in SAME:
    if name in before and before[name] != about[name]:
      raise ConfigError(
        f"{root} holds a sweep with {name} {before[name]!r}, not {about[name]!r}: give "
        "another --root"
      )
  old = {f.trial.name for f in trials.index(root)} if before else set()
  for trial in wanted:
    trials.write(root, trial)
  write_whole(root / SWEEP, json.dumps(about, indent=1) + "\n")
  return sorted(old - {trial.name for trial in wanted})


def read_about(root: pathlib.Path) -> dict[str, Any]:
  """What sweep.json says; {} without one."""
  try:
    return json.loads((pathlib.Path(root) / SWEEP).read_text())
  except (OSError, ValueError):
    return {}


def job(found: Found, resources: Resources = Resources()) -> JobSpec:  # noqa: B008
  """The job that trains and scores one trial, for any launcher."""
  trial = found.trial
  command = (
    sys.executable, "-m", "unijax", "sweep", "trial", str(found.folder),
    f"--key={trial.key}",  # a trial that is scored in another way is another job
  )  # fmt: skip
  words = re.sub(r"[^\w.=+-]+", ",", trial.label, flags=re.ASCII).strip(",")
  name = f"{trial.name}-{words[:100]},seed={trial.seed}"
  return JobSpec(name, command, str(found.folder), resources=resources)


def left(root: pathlib.Path, again: bool = False) -> list[Found]:
  """Trials that a driver has to see to: all but those done, and those failed.

  Args:
    root: of the sweep.
    again: take failed ones, too.
  """
  done = {"done"} if again else {"done", "failed"}
  return [found for found in trials.index(root) if found.state not in done]


def run(
  root: pathlib.Path, *, slots: int = 1, again: bool = False,
  make_job: Callable[[Found], JobSpec] = job,
) -> list[Outcome]:  # fmt: skip
  """Trains and scores what is left, a few at a time.

  Args:
    root: of the sweep.
    slots: trials at a time.
    again: whether failed ones are tried once more.
    make_job: what runs a trial.

  Returns:
    The outcomes of the trials that were left, in their order.
  """
  found = left(root, again)
  for one in found:
    if one.state != "running":  # what is left is not done, whatever was said of it
      (one.folder / RECORD).unlink(missing_ok=True)
  return Pool(slots).run([make_job(one) for one in found])
