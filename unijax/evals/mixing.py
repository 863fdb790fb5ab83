"""Lets the held-out loss of each source move the weights of the mixture."""

import dataclasses

from unijax.config import Config
from unijax.evals import held_out
from unijax.train.loop import Hook, Run


def hooks(config: Config) -> list[Hook]:
  """The hook of a run whose weights follow the losses; none for another run."""
  if config.data.mixture != "loss":
    return []
  return [Hook(config.data.mixture_every, _reweigh)]


def source_losses(config: Config, functions, params) -> dict[str, float]:
  """Returns the training objective on held-out documents of each source of weight > 0.

  Args:
    config: of the run; `eval.loss_batches` batches of each source are read.
    functions: the compiled StepFunctions of the run.
    params: weights.
  """
  losses = {}
  for entry in config.data.sources:
    if entry.weight > 0:
      data = dataclasses.replace(config.data, sources=(entry,), mixture="constant")
      alone = dataclasses.replace(config, data=data)
      batches = config.eval.loss_batches
      losses[entry.name] = held_out.losses(alone, functions, params, batches)["loss"]
  return losses


def _reweigh(run: Run, state, step: int) -> None:
  """Measures, records new weights and says so; a recorded step is only said again."""
  config, loader = run.config, run.loader
  if step >= config.train.steps:
    return
  segment = loader.history.at(step)
  if segment is None:
    losses = source_losses(config, run.functions, run.functions.averaged(state))
    segment = loader.reweigh(step, losses)
  scalars, shown = {}, ""
  for entry, loss, weight in zip(
    loader.entries, segment.losses, segment.weights, strict=True
  ):
    scalars[f"loss_{entry.name}"] = loss
    scalars[f"weight_{entry.name}"] = weight
    shown += f"  {entry.name} {weight:.3f}"
  run.writer.scalars(step, scalars, "mixture")
  begins = step + config.data.mixture_every
  run.progress.say(f"step {step}: mixture from step {begins} on:{shown}")
