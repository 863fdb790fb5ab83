"""The optimizer: AdamW or Muon, a warm-up and decay schedule, clipping by norm."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from unijax.config import Config, OptimConfig
from unijax.train import freeze


def make_schedule(config: OptimConfig, steps: int, peak: float) -> optax.Schedule:
  """Linear warm-up to `peak`, then the named decay to peak * final_fraction."""
  warmup = min(config.warmup_steps, steps)
  rest = max(steps - warmup, 1)
  decay = {
    "constant": lambda: optax.constant_schedule(peak),
    "cosine": lambda: optax.cosine_decay_schedule(peak, rest, config.final_fraction),
    "linear": lambda: optax.linear_schedule(peak, peak * config.final_fraction, rest),
  }[config.schedule]()
  return optax.join_schedules(
    [optax.linear_schedule(0.0, peak, warmup), decay], [warmup]
  )


def peak_rate(o: OptimConfig) -> float:
  """The peak of what Muon trains, or of everything."""
  return o.learning_rate


def peak_adam_rate(o: OptimConfig) -> float:
  """The peak of what Muon does not train."""
  return o.adam_learning_rate


def run_schedule(
  config: Config, peak: Callable[[OptimConfig], float]
) -> optax.Schedule:
  """The learning rate over all stages of a run, by the step.

  Args:
    config: of the run. By optim.stage_schedule every stage has a warm-up and a decay of
      its own over its own steps (restart), or they go on as in a run without stages and
      a stage changes the peak alone (continue).
    peak: which of the peaks.
  """
  schedules, starts = [], config.starts
  for number, start in enumerate(starts):
    stage = config.at(number)
    top = peak(stage.optim)
    if config.optim.stage_schedule == "restart":
      schedules.append(make_schedule(stage.optim, stage.train.steps, top))
    else:
      whole = make_schedule(config.optim, config.train.steps, top)
      schedules.append(lambda step, whole=whole, start=start: whole(step + start))
  return optax.join_schedules(schedules, list(starts[1:]))


class _Group(NamedTuple):
  """Parameters that are updated alike, by one rule, in the same stages."""

  kind: str  # a name of RULES
  mask: dict  # tree like the parameters, true for those of the group
  trained: bool  # in the stage at hand


def make_optimizer(
  config: Config, number: int = 0
) -> optax.GradientTransformationExtraArgs:
  """Builds the gradient transformation of one stage of a config.

  Weight decay acts on matrices only, never on norms, biases or offsets. Muon
  (Jordan et al. 2024) orthogonalises the kernels of the decoder's blocks; embeddings,
  heads and all else are trained by AdamW at `adam_learning_rate`.

  The state is the same for all stages. Parameters trained in the same stages are a
  group with moments and a count of updates of its own; a stage that does not train a
  group leaves both as they are, and what no stage trains has none. `update` takes the
  step of the run as `step=`, which the learning rate is a function of.

  Raises:
    ConfigError: from `init` and `update`, for globs that match no parameter, and for a
      stage that trains nothing.
  """
  o = config.at(number).optim
  rates = {"adam": run_schedule(config, peak_rate)}
  if o.name == "muon":
    rates = {
      "adam": run_schedule(config, peak_adam_rate),
      "muon": run_schedule(config, peak_rate),
    }
  clip = optax.clip_by_global_norm(o.clip_norm)

  def init(params):
    for i in range(len(config.starts)):  # before anything is compiled
      given = config.at(i).optim.rates
      freeze.factors(given, params, f"{_knob(config, i)}.rates")
    return {
      label: optax.masked(RULES[g.kind](o), g.mask).init(params)
      for label, g in _groups(config, number, params).items()
    }

  def update(grads, state, params, *, step):
    where = _knob(config, number)
    frozen = freeze.mask(freeze.globs(config.at(number)), params, f"{where}.freeze")
    factors = freeze.factors(o.rates, params, f"{where}.rates")
    grads = freeze.keep(frozen, grads, jax.tree.map(jnp.zeros_like, grads))
    updates, _ = clip.update(grads, optax.EmptyState())
    new = dict(state)
    for label, group in _groups(config, number, params).items():
      if group.trained:
        rule = optax.masked(RULES[group.kind](o), group.mask)
        updates, new[label] = rule.update(updates, state[label], params)
    kinds = jax.tree_util.tree_map_with_path(lambda p, _: _kind(o, p), params)
    now = {kind: -rate(step) for kind, rate in rates.items()}
    scaled = jax.tree.map(
      lambda kind, factor, x: jnp.asarray(now[kind] * factor, x.dtype) * x,
      kinds, factors, updates,
    )  # fmt: skip
    return scaled, new

  return optax.GradientTransformationExtraArgs(init, update)


def _adam(o: OptimConfig) -> optax.GradientTransformation:
  alone = o.name == "adamw"  # beside Muon: Nesterov's momentum as well, and no decay
  return optax.chain(
    optax.scale_by_adam(o.b1, o.b2, o.eps, nesterov=not alone),
    optax.add_decayed_weights(o.weight_decay if alone else 0.0, _matrices),
  )


def _muon(o: OptimConfig) -> optax.GradientTransformation:
  return optax.chain(
    contrib.scale_by_muon(eps=o.eps, weight_dimension_numbers=_muon_axes),
    optax.stateless(_scaled_by_shape),
    optax.add_decayed_weights(o.weight_decay),
  )


RULES = {"adam": _adam, "muon": _muon}


def _groups(config: Config, number: int, params) -> dict[str, _Group]:
  """The groups by name: their rule, and the stages that train them if not all do."""
  frozen = [
    freeze.mask(freeze.globs(config.at(i)), params, f"{_knob(config, i)}.freeze")
    for i in range(len(config.starts))
  ]
  names = config.train.stages or ("run",)
  kinds = jax.tree_util.tree_map_with_path(lambda p, _: _kind(config.optim, p), params)

  def label(kind: str, *frozen_in: bool) -> str:
    trained = [n for n, f in zip(names, frozen_in, strict=True) if not f]
    if not trained:
      return ""
    return kind if len(trained) == len(names) else "_in_".join([kind, *trained])

  labels = jax.tree.map(label, kinds, *frozen)
  trees = (labels, kinds, frozen[number])
  about = {x: rest for x, *rest in zip(*map(jax.tree.leaves, trees), strict=True)}
  return {
    x: _Group(kind, jax.tree.map(lambda y, x=x: y == x, labels), not held)
    for x, (kind, held) in sorted(about.items())
    if x
  }


def _knob(config: Config, number: int) -> str:
  """Where the optimizer's knobs of a stage are written, for errors."""
  return f"stages.{config.stages[number].name}.optim" if config.stages else "optim"


def _kind(o: OptimConfig, path) -> str:
  """The rule that trains a parameter."""
  name = freeze.name(path)
  if o.name == "muon" and "blocks" in name and name.endswith("kernel"):
    return "muon"
  return "adam"


def _matrices(params):
  return jax.tree_util.tree_map_with_path(
    lambda path, x: freeze.name(path).endswith(("kernel", "table")), params
  )


def _muon_axes(params):
  """(in, out) are the last axes of each kernel; the layer axis is a batch."""
  return jax.tree.map(
    lambda x: contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1), params
  )


def _scaled_by_shape(updates, params):
  """By sqrt(max(1, out / in)), the usual factor of Muon's orthogonal updates."""
  del params
  return jax.tree.map(
    lambda x: jnp.sqrt(jnp.maximum(1, x.shape[-1] / x.shape[-2])) * x, updates
  )
