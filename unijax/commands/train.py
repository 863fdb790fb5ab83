"""`unijax train`."""

import time

from unijax.checkpoint.start import Start
from unijax.config import Config
from unijax.evals import during
from unijax.train import loop
from unijax.train.metrics import read_metrics
from unijax.train.progress import LOSSES
from unijax.train.skips import Rewind


def run(
  config: Config,
  workdir: str,
  begin: Start = Start(),  # noqa: B008 (frozen)
  rewind: Rewind | None = None,
  process_began: float | None = None,
) -> dict:
  """Trains or resumes; returns the last losses and scores.

  The arguments are those of `unijax.train.loop.train`.
  """
  began = time.monotonic()
  hooks = during.hooks(config)
  _, finished = loop.train(config, workdir, hooks, begin, rewind, process_began)
  last: dict = {}
  for line in read_metrics(finished.workdir):
    last.update(line)
  wanted = [
    *(f"{part}/{loss}" for part in ("train", "held_out") for _, loss in LOSSES),
    *(f"quick/{task}_exact" for task in ("draw", "describe", "ask", "edit")),
  ]
  return {
    "verb": "train",
    "workdir": str(finished.workdir),
    "step": config.train.steps,
    "seconds": round(time.monotonic() - began, 1),
    **{name: last[name] for name in wanted if name in last},
  }
