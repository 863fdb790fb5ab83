"""Whether what was saved fits what is wanted: names, shapes and dtypes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from unijax.checkpoint.integrity import Leaf, stored_form
from unijax.types import TrainState


def abstract_state(init, shardings=None) -> TrainState:
  """Shapes, dtypes and placement of the state `init()` returns, without running it.

  Args:
    init: () -> state.
    shardings: tree of jax.sharding.Sharding like the state, or a function from the
      tree of shapes to one; None is the first device.
  """
  # A function bound to a mesh enters it only outside of tracing.
  shapes = init.eval_shape() if hasattr(init, "eval_shape") else jax.eval_shape(init)
  if callable(shardings):
    shardings = shardings(shapes)
  if shardings is None:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: here, shapes)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
  )


def misfits(saved: Mapping[str, Leaf], wanted: Mapping[str, Any]) -> list[str]:
  """One line for every leaf that is only on one side, or has another form."""
  lines = []
  for name in sorted({*saved, *wanted}):
    there = here = "nothing"
    if name in saved:
      there = form(saved[name].shape, saved[name].dtype, saved[name].prng)
    if name in wanted:
      here = form(*stored_form(wanted[name]))
    if there != here:
      lines.append(f"{name}: {there} there, {here} here")
  return lines


def form(shape: Sequence[int], dtype: str, prng: str = "") -> str:
  """'float32[3, 4]', as errors and tables say it."""
  return f"{dtype}{list(shape)}" + (f" of {prng} keys" if prng else "")


def shown(lines: Sequence[str], most: int = 8) -> str:
  """Lines for a message, indented, and how many were left out."""
  more = [f"and {len(lines) - most} more"] if len(lines) > most else []
  return "".join(f"\n  {line}" for line in [*lines[:most], *more])
