"""The stages of a run: which compiled step each one takes, and what is said of them.

A stage is the config with a few knobs changed (`Config.at`), and what it changes is
constant inside its compiled step: XLA then leaves out the gradients of what is frozen,
and nothing in the model knows of stages. The price is one compilation a stage; learning
rates and the data are functions of the step, so stages that differ in them alone share
one program.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from clu import parameter_overview

from unijax.config import Config
from unijax.train import freeze, guards

# Knobs that the schedule of the whole run has taken in: no program depends on them.
OF_THE_RUN = (
  "learning_rate", "adam_learning_rate", "warmup_steps", "schedule", "final_fraction",
)  # fmt: skip


def programs(config: Config, make: Callable[[int, Config], Callable]) -> list[Callable]:
  """Returns the step of every stage, one object where the compiled steps are the same.

  Args:
    config: of the run.
    make: (number of a stage, its config) -> its step.
  """
  made: list[tuple[Config, Callable]] = []
  steps = []
  for number in range(len(config.starts)):
    wanted = _program(config, number)
    found = [step for program, step in made if program == wanted]
    steps += found or [make(number, wanted)]
    made.append((wanted, steps[-1]))
  return steps


def _program(config: Config, number: int) -> Config:
  """The config of a stage as far as its compiled step depends on it."""
  at = config.at(number)
  rates = {name: getattr(config.optim, name) for name in OF_THE_RUN}
  return dataclasses.replace(
    at,
    data=config.data,
    optim=dataclasses.replace(at.optim, **rates),
    train=dataclasses.replace(at.train, steps=config.train.steps),
  )


def from_the_start(config: Config, train: Callable) -> Callable:
  """Wraps the step of a run with stages: each begins without a window of losses."""
  if not config.stages:
    return train

  @functools.wraps(train.func)
  def train_step(state, batch):
    begins = jnp.isin(state.step, jnp.array(config.starts[1:], state.step.dtype))
    guard = guards.begin_again(state.guard, begins)
    return train(state.replace(guard=guard), batch)

  return train_step


def label(config: Config, step: int) -> str:
  """'captions (1 of 2)', the stage of a step; '' without stages."""
  if not config.stages:
    return ""
  number = config.stage_of(step)
  return f"{config.stages[number].name} ({number + 1} of {len(config.stages)})"


def enter(run, state, step: int) -> None:
  """Says and writes down that a stage begins, or goes on, at a step."""
  config = run.config
  if not config.stages:
    return
  number = config.stage_of(step)
  at, row = config.at(number), rows(config, state.params)[number]
  run.events.stage(step, config.stages[number].name)
  verb = "begins" if step == config.starts[number] else "goes on"
  run.progress.say(
    f"step {step}: stage {label(config, step)} {verb}, to step "
    f"{config.starts[number] + at.train.steps}; {row.trained:,} parameters trained, "
    f"{row.frozen:,} frozen"
  )


@dataclasses.dataclass(frozen=True)
class Row:
  """What a stage trains."""

  stage: str
  steps: int
  trained: int  # numbers in parameters
  frozen: int
  learning_rate: float  # peak
  factors: str  # of the learning rate, by glob


def rows(config: Config, params) -> list[Row]:
  """Returns one row for each stage.

  Args:
    config: of the run.
    params: tree of anything with a shape.

  Raises:
    ConfigError: a glob that matches nothing; a stage that trains nothing.
  """
  result = []
  for number in range(len(config.starts)):
    at = config.at(number)
    where = f"stages.{config.stages[number].name}.optim" if config.stages else "optim"
    frozen = freeze.mask(freeze.globs(at), params, f"{where}.freeze")
    freeze.factors(at.optim.rates, params, f"{where}.rates")
    sizes = [math.prod(x.shape) for x in jax.tree.leaves(params)]
    held = sum(n for n, f in zip(sizes, jax.tree.leaves(frozen), strict=True) if f)
    result.append(
      Row(
        config.stages[number].name if config.stages else "-",
        at.train.steps,
        sum(sizes) - held,
        held,
        at.optim.learning_rate,
        ", ".join(f"{glob} x{rate:g}" for glob, rate in at.optim.rates) or "-",
      )
    )
  return result


def table(config: Config, params) -> str:
  """Returns the rows as a table; '' where everything is trained alike throughout."""
  if not (config.stages or freeze.globs(config) or config.optim.rates):
    return ""
  return parameter_overview.make_table(rows(config, params))
