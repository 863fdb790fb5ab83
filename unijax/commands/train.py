"""`unijax train`."""

import time

from unijax.checkpoint.start import Start
from unijax.config import Config
from unijax.evals.tasks import EVALUATIONS
from unijax.train import loop
from unijax.train.metrics import read_metrics
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
  measured = EVALUATIONS[config.train.task]
  hooks = measured.hooks(config)
  _, finished = loop.train(config, workdir, hooks, begin, rewind, process_began)
  last: dict = {}
  for line in read_metrics(finished.workdir):
    last.update(line)
  return {
    "verb": "train",
    "workdir": str(finished.workdir),
    "step": config.train.steps,
    "seconds": round(time.monotonic() - began, 1),
    **{name: last[name] for name in measured.results if name in last},
  }
