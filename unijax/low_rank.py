"""Low-rank pairs beside kernels (Hu et al. 2021, section 4.1): names and sums.

A kernel W_[.., in, out] that has a pair acts as W + alpha / rank * a b, where a is
[.., in, rank] and b, zero at first, [.., rank, out]. Pairs have a branch of their own
in the tree of parameters, PAIRS, which mirrors the paths of their modules; `joined`
puts them beside their kernels, where modules find them; `merged` multiplies them in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PAIRS = "lora"  # the branch of the parameters
A, B = "a_kernel", "b_kernel"  # what the two are called in it, and beside a kernel
Tree = dict[str, Any]


def beside(module) -> tuple[jax.Array, jax.Array] | None:
  """The pair (a, b) beside the kernel of a module that is being applied, if any."""
  if not module.has_variable("params", A):
    return None
  return module.get_variable("params", A), module.get_variable("params", B)


def added(kernel, a, b, scale: float = 1.0) -> jax.Array:
  """kernel + scale * a @ b, over the last two axes."""
  # In full: it is done once, and a TPU would round what it multiplies.
  change = jnp.matmul(scale * a, b, precision=jax.lax.Precision.HIGHEST)
  return (kernel + change).astype(kernel.dtype)


def joined(params: Tree, scale: float) -> Tree:
  """Parameters with scaled pairs beside their kernels, as a model is applied with."""
  return _changed(params, lambda _, a, b: {A: scale * a, B: b})


def merged(params: Tree, scale: float) -> Tree:
  """Parameters of a model without pairs that computes the same but for rounding."""
  return _changed(params, lambda kernel, a, b: {"kernel": added(kernel, a, b, scale)})


def _changed(params: Tree, change: Callable) -> Tree:
  """Parameters without PAIRS; change(kernel, a, b) is put into modules that had one."""

  def one(node: Tree, pairs: Tree) -> Tree:
    below = {n: one(node[n], x) for n, x in pairs.items() if n not in (A, B)}
    own = change(node["kernel"], pairs[A], pairs[B]) if A in pairs else {}
    return {**node, **below, **own}

  return one({n: x for n, x in params.items() if n != PAIRS}, params[PAIRS])


def only(tree, like):
  """The part of a tree of dicts that has a counterpart in `like`."""
  if not isinstance(like, dict):
    return tree
  return {name: only(tree[name], x) for name, x in like.items()}


def overlaid(tree, other):
  """A tree of dicts with the leaves of `other`, a part of it, in their places."""
  if not isinstance(other, dict):
    return other
  return {n: overlaid(x, other[n]) if n in other else x for n, x in tree.items()}
