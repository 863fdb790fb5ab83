"""The optimizer: AdamW or Muon, a warm-up and decay schedule, clipping by norm."""

import jax
import optax
from optax import contrib

from unijax.config import Config, OptimConfig


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


def make_optimizer(config: Config) -> optax.GradientTransformation:
  """Builds the gradient transformation for a config.

  Weight decay acts on matrices only, never on norms, biases or offsets. Muon
  (Jordan et al. 2024) orthogonalises the kernels of the decoder's blocks; embeddings,
  heads and all else are trained by AdamW at `adam_learning_rate`.
  """
  o, steps = config.optim, config.train.steps
  rate = make_schedule(o, steps, o.learning_rate)
  if o.name == "adamw":
    update = optax.adamw(
      rate, o.b1, o.b2, o.eps, weight_decay=o.weight_decay, mask=_matrices
    )
  else:
    update = contrib.muon(
      rate,
      eps=o.eps,
      weight_decay=o.weight_decay,
      adam_b1=o.b1,
      adam_b2=o.b2,
      adam_weight_decay=0.0,
      adam_learning_rate=make_schedule(o, steps, o.adam_learning_rate),
      muon_weight_dimension_numbers=_muon_axes,
    )
  return optax.chain(optax.clip_by_global_norm(o.clip_norm), update)


def _name(path) -> str:
  return "/".join(str(getattr(k, "key", k)) for k in path)


def _matrices(params):
  return jax.tree_util.tree_map_with_path(
    lambda path, x: _name(path).endswith(("kernel", "table")), params
  )


def _muon_axes(params):
  """(in, out) are the last axes of each block kernel; the layer axis is a batch."""

  def axes(path, x):
    name = _name(path)
    if "blocks" in name and name.endswith("kernel"):
      return contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)
    return None

  return jax.tree_util.tree_map_with_path(axes, params)
