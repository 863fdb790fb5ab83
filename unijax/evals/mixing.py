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


def source_losses(config: Config, evaluate, params) -> dict[str, float]:
  """Returns the training objective on held-out documents of each source of weight > 0.

  Args:
    config: of the run; `eval.loss_batches` batches of each source are read.
    evaluate: compiled (params, batch, key) -> metrics.
    params: weights.
  """
  losses = {}
  for entry in config.data.sources:
    if entry.weight > 0:
      data = dataclasses.replace(config.data, sources=(entry,), mixture="constant")
      alone = dataclasses.replace(config, data=data)
      batches = config.eval.loss_batches
      losses[entry.name] = held_out.losses(alone, evaluate, params, batches)["loss"]
  return losses


def _reweigh(run: Run, state, step: int) -> None:
  """Measures, records new weights and says so; nothing if this was done before."""
  config, loader = run.config, run.loader
  if step >= config.train.steps or loader.history.has(step):
    return
  losses = source_losses(config, run.functions.evaluate, state.ema_params)
  weights = dict(zip(losses, loader.reweigh(step, losses), strict=True))
  scalars = {f"loss_{name}": loss for name, loss in losses.items()}
  scalars |= {f"weight_{name}": weight for name, weight in weights.items()}
  run.writer.scalars(step, scalars, "mixture")
  shown = "  ".join(f"{name} {weight:.3f}" for name, weight in weights.items())
  begins = step + config.data.mixture_every
  run.progress.say(f"step {step}: mixture from step {begins} on: {shown}")
