"""What is measured of a run, by its task: while it trains, and by `unijax eval`.

The names are those of `unijax.train.tasks.TASKS`.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from unijax.config import Config
from unijax.evals import alignment, codec, during, unified
from unijax.train.run import Hook


class Evaluation(NamedTuple):
  """How the runs of a task are measured.

  Attributes:
    hooks: config -> what is done every so many steps.
    evaluate: (workdir, step or None, report file or None, options of the command) ->
      figures as plain values. Prints its table and writes the page.
    results: names of the metrics in the result of `unijax train`.
  """

  hooks: Callable[[Config], list[Hook]]
  evaluate: Callable[[str, int | None, pathlib.Path | None, dict], dict]
  results: tuple[str, ...]


EVALUATIONS = {
  "unified": Evaluation(during.hooks, unified.evaluate, unified.RESULTS),
  "drawing": Evaluation(
    during.hooks,
    unified.evaluate,
    ("train/image_mse", "held_out/image_mse", "quick/draw_exact"),
  ),
  "codec": Evaluation(codec.hooks, codec.evaluate, codec.RESULTS),
  "decoder": Evaluation(codec.hooks, codec.evaluate, codec.DECODER_RESULTS),
  "alignment": Evaluation(alignment.hooks, alignment.evaluate, alignment.RESULTS),
}
