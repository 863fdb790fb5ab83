"""Trials without training: folders as a driver and its trials leave them."""

import json
import pathlib

from unijax.sweep import hold, pool, trials
from unijax.sweep.trials import Trial


def trial(number: int, seed: int = 0, **facts) -> Trial:
  """A trial of point `number`, compared with point 0."""
  config = {
    "seed": seed,
    "model": {"width": number, "text": "x" * facts.pop("size", 0)},
  }
  values = dict(
    name=f"{number:03d}-{seed}", number=number, label=f"width={number}",
    group=f"g{number}", seed=seed, point={"model.width": number}, baseline="g0",
    budget=None, counted={}, prompts=4, key="1-4", config=config,
  )  # fmt: skip
  return Trial(**{**values, **facts})


def done(root: pathlib.Path, one: Trial, scores: dict, **facts) -> None:
  """Leaves the scores of a trial."""
  result = {
    "steps": 10, "flops": 1e9, "flops_per_step": 1e8, "parameters": 1000,
    "scores": {name: [value] for name, value in scores.items()}, "about": {}, **facts,
  }  # fmt: skip
  content = {"key": one.key, "result": result}
  (root / one.name / trials.SCORES).write_text(json.dumps(content))


def failed(root: pathlib.Path, one: Trial, error: str) -> None:
  """Leaves the record of a trial that crashed."""
  began(root, one)
  record = {"state": "failed", "error": error, "command": []}
  (root / one.name / pool.RECORD).write_text(json.dumps(record))


def began(root: pathlib.Path, one: Trial) -> pathlib.Path:
  """Leaves the lock of a trial that nobody holds any more; returns it."""
  lock = root / one.name / pool.LOCK
  lock.write_text(json.dumps({"pid": 1, "host": "gone", "began": 0.0}))
  assert not hold.held(lock)
  return lock
