"""The trials of a sweep, as their run folders tell it; there is no other record.

ROOT/NAME/ is the run folder of one trial. trial.json in it, written before anything
starts, says what is to be trained; the state follows from what else is there:

  done          scores.json, made under the key that the trial asks for
  running       a process holds job.lock
  failed        job.json says so, with the last line of the error
  interrupted   job.lock shows that it began: the next driver goes on with it
  waiting       nothing of these

Nothing here loads JAX.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from unijax.disk import write_whole
from unijax.errors import ConfigError
from unijax.evals.figures import SCORES
from unijax.sweep import hold
from unijax.sweep.pool import LOCK, RECORD

TRIAL = "trial.json"
STATES = ("done", "running", "interrupted", "waiting", "failed")
State = Literal["done", "running", "interrupted", "waiting", "failed"]


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a sweep.

  Attributes:
    name: hash of its resolved config; of its run folder.
    number: of its point in the sweep.
    label: what is particular of its point.
    group: hash of its config without the seed: trials of one point have one.
    seed: of its config.
    point: {dotted path: value}, as the study has it.
    baseline: group that it is compared with; "" for none.
    budget: FLOPs that its training was to cost; None where steps were given.
    counted: steps, flops_per_step and flops that the budget bought; {} without one.
    prompts: that it is scored on, of each task and split.
    key: of how it is scored.
    config: resolved, as plain values.
  """

  name: str
  number: int
  label: str
  group: str
  seed: int
  point: Mapping[str, Any]
  baseline: str
  budget: float | None
  counted: Mapping[str, float]
  prompts: int
  key: str
  config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Found:
  """A trial and what became of it.

  Attributes:
    trial: what was asked for.
    folder: of its run.
    state: one of `STATES`.
    error: one line, of a failed one.
    result: figures of a done one, as `evals.compare_one` describes them.
  """

  trial: Trial
  folder: pathlib.Path
  state: State
  error: str = ""
  result: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write(root: pathlib.Path, trial: Trial) -> None:
  """Writes trial.json; its run folder is made."""
  text = json.dumps(dataclasses.asdict(trial), indent=1) + "\n"
  write_whole(root / trial.name / TRIAL, text)


def read(folder: pathlib.Path) -> Trial:
  """Returns the trial of a run folder.

  Raises:
    ConfigError: the folder is none of a sweep, or its trial.json is damaged.
  """
  path = pathlib.Path(folder) / TRIAL
  values = _json(path)
  try:
    return Trial(**values)
  except TypeError as error:
    why = "there is none" if values is None else f"it is damaged ({error})"
    raise ConfigError(
      f"{path}: {why}; `unijax sweep run` writes it again, and keeps what was trained"
    ) from error


def index(root: str | os.PathLike) -> list[Found]:
  """Every trial below a folder, by point and seed; at most four small files of each.

  Raises:
    ConfigError: there is no sweep in this folder.
  """
  with_trial = []
  if os.path.isdir(root):
    with os.scandir(root) as entries:
      with_trial = [e.path for e in entries if os.path.exists(f"{e.path}/{TRIAL}")]
  if not with_trial:
    raise ConfigError(
      f"{root}: no trials in this folder; `unijax sweep run STUDY --root={root}` makes "
      "them"
    )
  found = [look(pathlib.Path(path)) for path in with_trial]
  return sorted(found, key=lambda f: (f.trial.number, f.trial.seed, f.trial.name))


def look(folder: pathlib.Path) -> Found:
  """One trial and its state.

  Raises:
    ConfigError: as `read`.
  """
  trial = read(folder)
  scores = _json(folder / SCORES)
  if scores is not None and scores.get("key") == trial.key:
    return Found(trial, folder, "done", result=scores["result"])
  if hold.held(folder / LOCK):
    return Found(trial, folder, "running")
  record = _json(folder / RECORD)
  if record is not None and record.get("state") == "failed":
    return Found(trial, folder, "failed", error=record["error"])
  began = (folder / LOCK).exists()
  return Found(trial, folder, "interrupted" if began else "waiting")


def _json(path: pathlib.Path) -> dict[str, Any] | None:
  """What a file holds; None where there is none, or it holds no JSON object."""
  try:
    content = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return None
  return content if isinstance(content, dict) else None
