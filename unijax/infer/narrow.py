"""Weights in the dtype that sampling computes in: cast once, not at every token.

Parameters are float32 and layers round them to `model.dtype` where they multiply. For
training that is right; sampling would read and round every kernel again for each token
it writes. Which leaves are only ever rounded is read off the traced functions, so no
layer has to say so: norms, routers and whatever else computes in float32 keep their
float32 weights, and the numbers that come out are the same, bit for bit. `apart` lays
weights out for writing one token after another.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from unijax.nn.layers import TURNED

# Primitives that only move the numbers of their first operand.
MOVES = (
  "broadcast_in_dim", "copy", "dynamic_slice", "gather", "reshape", "rev", "slice",
  "squeeze", "transpose",
)  # fmt: skip


def rounded(calls: Iterable[tuple[Callable, tuple]], dtype):
  """Says of every parameter whether nothing sees it before it is rounded to `dtype`.

  Args:
    calls: (function, abstract arguments), of which the first are the parameters; the
      same tree in all calls.
    dtype: that is rounded to.

  Returns:
    A tree of bools like the parameters.
  """
  said = None
  for function, arguments in calls:
    leaves, tree = jax.tree.flatten(arguments[0])
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    now = [
      _seen(jaxpr, var, jnp.dtype(dtype)) == set()
      for var in jaxpr.invars[: len(leaves)]
    ]
    said = now if said is None else [a and b for a, b in zip(said, now, strict=True)]
  return jax.tree.unflatten(tree, said)


def narrow(params, which, dtype):
  """Casts the float32 leaves that `which` says; shapes stay shapes, in their places."""

  def one(x, cast):
    if not cast or x.dtype != jnp.float32:
      return x
    if isinstance(x, jax.ShapeDtypeStruct):
      return x.update(dtype=dtype)
    return jnp.asarray(x).astype(dtype)

  return jax.tree.map(one, params, which)


def apart(params):
  """Weights as a token is written with: each block's own, and kernels [out, in].

  `blocks`, stacked, -> `block_0`, `block_1`, ..: a loop over stacked layers reads a
  slice of each weight, which back ends copy before they multiply with it, and writing a
  token then moves every weight twice. Kernels of the blocks and of the text head are
  turned (`layers.TURNED`): a product of a few rows reads them row by row.
  """
  decoder = dict(params["transformer"])
  if "blocks" not in decoder:
    return params
  blocks = decoder.pop("blocks")
  first = jax.tree.leaves(blocks)[0]
  if isinstance(first, jax.ShapeDtypeStruct):
    return jax.eval_shape(apart, params)
  for i in range(first.shape[0]):
    decoder[f"block_{i}"] = _turned(jax.tree.map(lambda x, i=i: x[i], blocks))
  parts = {**params, "transformer": decoder}
  if "text_head" in parts:
    parts["text_head"] = _turned(parts["text_head"])
  return parts


def _turned(tree):
  """With the kernels of `Linear` turned; those of several maps have more axes."""
  made = {}
  for name, x in tree.items():
    if isinstance(x, dict):
      made[name] = _turned(x)
    elif name == "kernel" and x.ndim == 2:
      made[TURNED] = jnp.asarray(x).T
    else:
      made[name] = x
  return made


def _seen(jaxpr, var, dtype) -> set[int] | None:
  """Numbers of the results that are `var`, moved at most; None: it is computed with."""
  moved = {var}
  for eqn in jaxpr.eqns:
    for i, operand in enumerate(eqn.invars):
      if not isinstance(operand, Var) or operand not in moved:
        continue
      kind = eqn.primitive.name
      if kind == "convert_element_type" and eqn.params["new_dtype"] == dtype:
        continue
      if kind in MOVES and i == 0:
        moved.update(eqn.outvars)
        continue
      results = _inside(eqn, i, dtype)
      if results is None:
        return None
      moved.update(eqn.outvars[n] for n in results)
  return {
    n for n, out in enumerate(jaxpr.outvars) if isinstance(out, Var) and out in moved
  }


def _inside(eqn, i: int, dtype) -> set[int] | None:
  """`_seen` of operand i of an equation that holds others."""
  kind, p = eqn.primitive.name, eqn.params
  if kind == "scan":
    first, carried = p["num_consts"], p["num_carry"]
    if first <= i < first + carried:
      return None
    return _kept([(p["jaxpr"], i)], dtype)
  if kind == "while":
    condition, body = p["cond_nconsts"], p["body_nconsts"]
    if i < condition:
      return _kept([(p["cond_jaxpr"], i)], dtype)
    if i < condition + body:
      return _kept([(p["body_jaxpr"], i - condition)], dtype)
    return None
  if kind == "cond":
    return _kept([(b, i - 1) for b in p["branches"]], dtype) if i else None
  inner = _open(p.get("jaxpr", p.get("call_jaxpr")))
  same = inner is not None and len(inner.invars) == len(eqn.invars)
  if not same or len(inner.outvars) != len(eqn.outvars):
    return None
  return _seen(inner, inner.invars[i], dtype)


def _kept(bodies, dtype) -> set[int] | None:
  """No results, if nothing in the bodies sees the operand or hands it on."""
  for body, i in bodies:
    body = _open(body)
    if _seen(body, body.invars[i], dtype) != set():
      return None
  return set()


def _open(jaxpr):
  return getattr(jaxpr, "jaxpr", jaxpr)


class Weights:
  """Gives a generator `params`, which holds narrow copies of what is set.

  Subclasses set `dtype` and say in `calls` what they run.
  """

  dtype: str
  layers_apart = False  # see `apart`
  _params = None

  def calls(self, params) -> Iterable[tuple[Callable, tuple]]:
    """Returns the compiled functions with abstract arguments, as in `rounded`."""
    raise NotImplementedError

  @property
  def params(self):
    """Weights as they are used: kernels in `model.dtype`."""
    return self._params

  @params.setter
  def params(self, params) -> None:
    if params is not None and self.layers_apart:
      params = apart(params)
    if params is not None and jnp.dtype(self.dtype) != jnp.float32:
      shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
      params = narrow(params, rounded(self.calls(shapes), self.dtype), self.dtype)
    self._params = params
