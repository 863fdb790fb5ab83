"""`unijax train`."""

import time

from unijax.config import Config
from unijax.evals import during
from unijax.train import loop, skips
from unijax.train.metrics import read_metrics


def run(
  config: Config,
  workdir: str,
  rewind: int | None = None,
  skip_steps: str | None = None,
  process_began: float | None = None,
) -> dict:
  """Trains or resumes; returns the last losses and scores.

  `rewind` and `skip_steps` are as in `unijax.train.skips.parse`; `process_began` is as
  `began` in `unijax.train.loop.train`.
  """
  began = time.monotonic()
  wish = skips.parse(rewind, skip_steps)
  hooks = during.hooks(config)
  _, finished = loop.train(config, workdir, hooks, wish, process_began)
  last: dict = {}
  for line in read_metrics(finished.workdir):
    last.update(line)
  wanted = ("train/text_nll", "train/image_mse", "held_out/text_nll",
            "held_out/image_mse", "quick/draw_exact", "quick/describe_exact",
            "quick/ask_exact", "quick/edit_exact")  # fmt: skip
  return {
    "verb": "train",
    "workdir": str(finished.workdir),
    "step": config.train.steps,
    "seconds": round(time.monotonic() - began, 1),
    **{name: last[name] for name in wanted if name in last},
  }
