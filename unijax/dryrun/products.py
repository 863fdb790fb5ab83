"""FLOPs of the matrix products and convolutions of a traced function, whatever it is.

This module reads the traced program, so that it holds for every task, every way to
read and to write and every frozen part, and counts what the program multiplies: all
positions and all keys, padding too. Which of them are of use `flops` tells. Products of
routed experts count the rows that they have, once.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn
from jax.extend import core
from jax.interpreters import partial_eval

from unijax.config import Config
from unijax.nn import logical
from unijax.train import step, tasks


def train_step(config: Config, vocab: int, batch, *, remat: bool = False) -> float:
  """FLOPs of one training step: forward and backward, as far as parameters are trained.

  Two a multiply-add; norms, softmax and the optimizer are left out. A run with stages
  has one number a stage: give it `config.at(number)`.

  Args:
    config: of the run, or of a stage.
    vocab: ids that the token table holds, as the loader counts them.
    batch: of the loader, or its shapes.
    remat: whether to count what remat computes again, too: of attention in its dense
      form. Kernels repeat the scores in any case.
  """
  if not remat:
    once = {
      name: dataclasses.replace(getattr(config, name), remat="none")
      for name in ("model", "vision", "text")
    }
    config = dataclasses.replace(config, **once)
  model = dataclasses.replace(config.model, attention="dense")
  task = tasks.make_task(dataclasses.replace(config, model=model), vocab)
  key = jax.eval_shape(jax.random.key, 0)
  params = jax.eval_shape(lambda key: nn.unbox(task.init_params(key)), key)
  with logical.traced_for("tpu"):  # there the products of groups of rows are one
    return count(
      lambda p, b, k: step.gradients(p, task, b, k)[0], params, _shapes(batch), key
    )


def count(function: Callable, *args) -> float:
  """FLOPs of the products of a function, traced with arrays or shapes.

  Raises:
    ValueError: a loop of unknown length multiplies.
  """
  closed = jax.make_jaxpr(function)(*args)
  needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.out_avals))
  return _products(needed)


def _shapes(batch):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)


def _products(jaxpr: core.Jaxpr) -> float:
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name in PRODUCTS:
      total += 2.0 * PRODUCTS[name](eqn)
      continue
    inner = [_products(x) for x in core.jaxprs_in_params(eqn.params)]
    if name == "while" and sum(inner):
      raise ValueError("products inside a loop whose length is not known when traced")
    total += max(inner, default=0.0) if name == "cond" else sum(inner) * _times(eqn)
  return total


def _times(eqn) -> int:
  return eqn.params["length"] if eqn.primitive.name == "scan" else 1


def _dot(eqn) -> float:
  (contract, _), _ = eqn.params["dimension_numbers"]
  return _size(eqn.outvars[0]) * math.prod(
    eqn.invars[0].aval.shape[i] for i in contract
  )


def _ragged(eqn) -> float:
  """Every row meets the weights of its own group."""
  numbers = eqn.params["ragged_dot_dimension_numbers"]
  (_, contract), (_, batch) = numbers.dot_dimension_numbers
  known = {*contract, *batch, *numbers.rhs_group_dimensions}
  shape = eqn.invars[1].aval.shape
  free = math.prod(n for i, n in enumerate(shape) if i not in known)
  return _size(eqn.invars[0]) * free


def _convolution(eqn) -> float:
  """Products with zeros, around the picture or between its pixels, do not count."""
  p, (x, kernel) = eqn.params, (v.aval.shape for v in eqn.invars)
  numbers, out = p["dimension_numbers"], eqn.outvars[0].aval.shape
  taps = 1
  for i, (low, _) in enumerate(p["padding"]):
    size = x[numbers.lhs_spec[2 + i]]
    at = np.arange(out[numbers.out_spec[2 + i]])[:, None] * p["window_strides"][i] - low
    at = at + np.arange(kernel[numbers.rhs_spec[2 + i]]) * p["rhs_dilation"][i]
    apart = p["lhs_dilation"][i]
    taps *= int(((at >= 0) & (at % apart == 0) & (at // apart < size)).sum())
  channels = out[numbers.out_spec[0]] * out[numbers.out_spec[1]]
  return channels * kernel[numbers.rhs_spec[1]] * taps


def _size(variable) -> int:
  return math.prod(variable.aval.shape)


PRODUCTS = {
  "dot_general": _dot,
  "ragged_dot_general": _ragged,
  "conv_general_dilated": _convolution,
}
