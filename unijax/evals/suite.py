"""Everything that `unijax eval` measures of a trained run."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from unijax.data.scenes import baselines
from unijax.evals import held_out, scene_scores
from unijax.evals.drawings import Drawings, draw_emoji
from unijax.evals.scenes import Outcome, SceneEvaluator, scene_options
from unijax.infer.load import LoadedRun
from unijax.train.functions import StepFunctions

Interval = tuple[float, float, float]  # mean, low, high


@dataclasses.dataclass
class Evaluation:
  """What was measured. Missing parts are None or empty: the config has no such data.

  Attributes:
    outcomes: (split, task) -> items, outputs and scores.
    cycles: name -> interval of the two round trips, on the first split.
    baselines: task -> stand-in -> exact score, on the first split.
    losses: held-out losses by name.
    bits_per_byte: of held-out text.
    drawings: emoji.
    seconds: wall time of each part.
  """

  outcomes: dict[tuple[str, str], Outcome]
  cycles: dict[str, Interval]
  baselines: dict[str, dict[str, float]]
  losses: dict[str, float]
  bits_per_byte: float | None
  drawings: Drawings | None
  seconds: dict[str, float]

  def exact(self, split: str, task: str) -> Interval:
    """(mean, low, high) of exactly right outputs."""
    return self.outcomes[split, task].table()["exact"]

  def summary(self) -> dict:
    """All figures as plain values, for JSON."""
    result = {
      "scenes": {
        f"{split}/{task}": {
          name: [round(v, 4) for v in interval]
          for name, interval in outcome.table().items()
        }
        for (split, task), outcome in self.outcomes.items()
      },
      "cycles": {k: [round(x, 4) for x in v] for k, v in self.cycles.items()},
      "baselines": self.baselines,
      "held_out": self.losses,
      "bits_per_byte": self.bits_per_byte,
      "seconds": {k: round(v, 2) for k, v in self.seconds.items()},
    }
    if self.drawings:
      result["emoji_kid_lite"] = self.drawings.kid.value
      result["emoji_kid_lite_unseen"] = self.drawings.scale.value
    return result


def evaluate(
  run: LoadedRun,
  *,
  splits: list[str] | None = None,
  items: int | None = None,
  scenes: Mapping[str, Any] | None = None,
  extras: bool = True,
  say: Callable[[str], None] = print,
) -> Evaluation:
  """Evaluates a run.

  Args:
    run: what to evaluate.
    splits: of scenes; None is all that the config allows, the first is shown in full.
    items: prompts a task and split; None is eval.prompts.
    scenes: options of the scenes instead of the run's own, by name.
    extras: round trips and emoji too.
    say: takes one line after each part.
  """
  config, seconds = run.config, {}
  generator = run.generator(rows=config.eval.batch_size)
  outcomes, cycles, stand_ins = {}, {}, {}
  options = scene_options(config)
  if options is not None:
    options = dataclasses.replace(options, **(scenes or {}))
    evaluator = SceneEvaluator(options, generator, items or config.eval.prompts)
    known = evaluator.splits()
    unknown = sorted(set(splits or ()) - set(known))
    if unknown:
      raise ValueError(f"unknown split {unknown[0]!r}; this run has {', '.join(known)}")
    for split in splits or known:
      for task, measure in evaluator.tasks.items():
        began = time.monotonic()
        outcome = outcomes[split, task] = measure(split)
        seconds[f"{split}/{task}"] = time.monotonic() - began
        mean, low, high = outcome.table()["exact"]
        say(f"{split:10s} {task:9s} exact {mean:.3f}  [{low:.3f}, {high:.3f}]")
    first = (splits or known)[0]
    cycles = _cycles(evaluator, outcomes, first) if extras else {}
    stand_ins = _baselines(evaluator, outcomes, first)
  losses, compression = _losses(run, seconds)
  began = time.monotonic()
  drawings = draw_emoji(config, generator, config.eval.kid_images) if extras else None
  seconds["emoji"] = time.monotonic() - began
  return Evaluation(outcomes, cycles, stand_ins, losses, compression, drawings, seconds)


def _losses(run: LoadedRun, seconds) -> tuple[dict[str, float], float | None]:
  began = time.monotonic()
  config, batches = run.config, run.config.eval.loss_batches
  functions = StepFunctions(config, run.builder.vocabulary.size)
  losses = held_out.losses(config, functions, run.params, batches)
  compression = held_out.bits_per_byte(config, functions, run.params, batches)
  seconds["losses"] = time.monotonic() - began
  return losses, compression


def _cycles(evaluator: SceneEvaluator, outcomes, split: str) -> dict[str, Interval]:
  if not {"draw", "describe"} <= set(evaluator.tasks):
    return {}
  drawn, described = outcomes[split, "draw"], outcomes[split, "describe"]
  return {
    "caption_image_caption": scene_scores.bootstrap(evaluator.caption_cycle(drawn)),
    "image_caption_image": scene_scores.bootstrap(evaluator.image_cycle(described)),
  }


def _baselines(evaluator: SceneEvaluator, outcomes, split: str):
  """Exact scores of stand-ins on the same items."""
  options = dataclasses.replace(evaluator.options, split=split)
  result = {}
  for task in evaluator.tasks:
    items = outcomes[split, task].items
    result[task] = {}
    for name in baselines.BASELINES:
      outputs = baselines.baseline(name, items, options)
      scores = evaluator.score(task, items, outputs)
      result[task][name] = sum(s.exact for s in scores) / len(scores)
  return result
