"""Steps that must not count: refused inside the compiled step, counted in the state.

A step is refused when its loss, its gradient norm or the norm of the weights it would
give is not finite, or when its loss or gradient norm is a spike: more than
`guard.spike_factor` times the median of the last `guard.window` accepted steps. (After
OLMo-core's SkipStepOptimizer, which compares the same two numbers with mean + 6
standard deviations of 128 steps; a median is not moved by the outliers it must find.)
Until the window is full nothing is a spike.

A refused step leaves parameters, average and optimizer as they are, bit for bit; the
step counter goes on, since it is also the position in the data. After `guard.patience`
refused steps in a row every later step is refused too, so the state stays what it was
until the host, which reads metrics only now and then, notices and stops.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from unijax.config import GuardConfig


class Diverged(FloatingPointError):
  """Too many steps in a row were refused. The message says which and what to try."""


@flax.struct.dataclass
class GuardState:
  """Counters and the window of accepted steps; W is `guard.window`."""

  nonfinite: jax.Array  # int32 []: steps refused because something was not finite
  spikes: jax.Array  # int32 []: steps refused as spikes
  in_a_row: jax.Array  # int32 []: refused steps since the last accepted one
  accepted: jax.Array  # int32 []: accepted steps; the next goes to slot accepted % W
  loss_W: jax.Array  # float32: losses of the last W accepted steps
  grad_norm_W: jax.Array  # float32: their gradient norms


def init_guard(config: GuardConfig) -> GuardState:
  """Nothing refused, nothing seen."""
  zero, empty = jnp.zeros((), jnp.int32), jnp.zeros(config.window, jnp.float32)
  return GuardState(zero, zero, zero, zero, empty, empty)


def apply(
  config: GuardConfig, guard: GuardState, loss, grad_norm, param_norm
) -> tuple[jax.Array, GuardState]:
  """Judges one step.

  Args:
    config: the rule.
    guard: the state before the step.
    loss: scalar loss of the batch.
    grad_norm: global norm of its gradient, before clipping.
    param_norm: global norm of the weights after the update.

  Returns:
    (whether the step counts, the state after it).
  """
  loss, grad_norm = loss.astype(jnp.float32), grad_norm.astype(jnp.float32)
  finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(param_norm)
  spike = jnp.zeros((), bool)
  if config.spike_factor > 0:
    spike = (loss > config.spike_factor * jnp.median(guard.loss_W)) | (
      grad_norm > config.spike_factor * jnp.median(guard.grad_norm_W)
    )
    spike &= finite & (guard.accepted >= config.window)
  ok = finite & ~spike & (guard.in_a_row < config.patience)
  slot = guard.accepted % config.window
  losses_W = guard.loss_W.at[slot].set(loss)
  norms_W = guard.grad_norm_W.at[slot].set(grad_norm)
  return ok, GuardState(
    nonfinite=guard.nonfinite + ~finite,
    spikes=guard.spikes + spike,
    in_a_row=jnp.where(ok, 0, guard.in_a_row + 1),
    accepted=guard.accepted + ok,
    loss_W=select(ok, losses_W, guard.loss_W),
    grad_norm_W=select(ok, norms_W, guard.grad_norm_W),
  )


def select(ok, new, old):
  """Returns the tree `new` where the step counts and `old` where it does not."""
  return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)


def counts(guard: GuardState) -> dict[str, jax.Array]:
  """What metrics show of the state."""
  return {
    "skipped_nonfinite": guard.nonfinite,
    "skipped_spike": guard.spikes,
    "skipped_in_a_row": guard.in_a_row,
  }


def check(
  config: GuardConfig,
  step: int,
  scalars: dict[str, float],
  batch_of: Callable[[int], int],
) -> None:
  """Raises once the state refuses every step.

  Args:
    config: for the patience.
    step: the step that `scalars` were measured at.
    scalars: of that step, with `counts`.
    batch_of: number of a step -> number of the batch it read.

  Raises:
    Diverged: `guard.patience` steps in a row were refused.
  """
  in_a_row = int(scalars["skipped_in_a_row"])
  if in_a_row < config.patience:
    return
  first = step - in_a_row + 1
  last = first + config.patience - 1  # those after it were not even judged
  seen = ", ".join(
    f"{name} {scalars[name]:.4g}"
    for name in (
      "loss",
      "text_nll",
      "image_mse",
      "image_nll",
      "grad_norm",
      "param_norm",
    )
    if name in scalars
  )
  raise Diverged(
    f"{config.patience} steps in a row were refused (guard.patience), {first} to "
    f"{last}: {seen} at step {step}. In the whole run "
    f"{scalars['skipped_nonfinite']:.0f} were not finite and "
    f"{scalars['skipped_spike']:.0f} were spikes. The weights are those before step "
    f"{first}, and the last good checkpoint is kept. Lower optim.learning_rate or "
    "raise optim.warmup_steps; or, where the data are to blame, go back and leave "
    f"them out: --rewind=STEP --skip-steps={batch_of(first)}:{batch_of(last) + 1}, "
    f"where STEP is a checkpoint that is not after step {first}"
  )
