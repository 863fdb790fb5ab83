"""Low-rank pairs of a config: which kernels have one, how they begin, what else moves.

Pairs are parameters like others: they have a branch of the tree, names of axes that a
mesh divides, gradients, moments and averages. All else rests (`freeze.globs`), and what
rests throughout a run has no average: it would be the parameter itself.
"""

import dataclasses
import fnmatch
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from unijax import low_rank
from unijax.config import Config, ConfigError
from unijax.nn.layers import kernel_init
from unijax.train import freeze

STACKED = {"layers", "experts"}  # axes in front of those of a linear map


def scale(config: Config) -> float:
  """What a pair's product is multiplied by."""
  return config.lora.alpha / config.lora.rank


def without(config: Config) -> Config:
  """The config of the same model when its pairs have been multiplied in."""
  return dataclasses.replace(config, lora=dataclasses.replace(config.lora, rank=0))


def fresh(config: Config, boxed: low_rank.Tree, key: jax.Array) -> low_rank.Tree:
  """Pairs of the kernels that `lora.targets` names: a is random, b is zero.

  Args:
    config: of the run.
    boxed: parameters in boxes that carry the logical names of their axes.
    key: of all pairs; which one a kernel has does not depend on the others.

  Returns:
    The branch PAIRS, in boxes whose names are those of the kernels.

  Raises:
    ConfigError: a target that matches no kernel, with the nearest; nothing is left.
  """
  tree: low_rank.Tree = {}
  for path, box in _chosen(config, _maps(boxed)).items():
    *folders, _ = path.split("/")
    place = tree
    for folder in folders:
      place = place.setdefault(folder, {})
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    *stack, into, out = box.value.shape
    *names, first, last = box.names
    make = kernel_init(1.0, len(stack))
    a = make(own, (*stack, into, config.lora.rank), jnp.float32)
    b = jnp.zeros((*stack, config.lora.rank, out), jnp.float32)
    place[low_rank.A] = box.replace(value=a, names=(*names, first, None))
    place[low_rank.B] = box.replace(value=b, names=(*names, None, last))
  return tree


def _maps(boxed) -> dict[str, Any]:
  """Path -> box of every kernel of a linear map; convolutions are none."""
  leaves = jax.tree_util.tree_leaves_with_path(
    boxed, is_leaf=lambda x: hasattr(x, "names")
  )
  found = {freeze.name(path): box for path, box in leaves}
  return {
    path: box
    for path, box in found.items()
    if path.split("/")[-1] == "kernel"
    and len(getattr(box, "names", ())) > 1
    and STACKED.issuperset(box.names[:-2])
  }


def _chosen(config: Config, maps: dict[str, Any]) -> dict[str, Any]:
  globs = config.lora.targets
  for glob in globs:
    said = f"lora.targets: {glob!r} matches no kernel of a linear map"
    freeze.check(glob.removeprefix("!"), list(maps), said)
  result = {}
  for path, box in maps.items():
    fits = [g for g in globs if fnmatch.fnmatchcase(path, g.removeprefix("!"))]
    if fits and not fits[-1].startswith("!"):
      result[path] = box
  if not result:
    raise ConfigError(
      f"lora.targets: {', '.join(map(repr, globs))} leave no kernel for a pair: begin "
      "with a glob without '!', or set lora.rank=0"
    )
  return result


def moving(config: Config, params):
  """The part of the parameters that has averages: all, or with pairs what is trained.

  Args:
    config: of the run, with all its stages.
    params: tree of arrays or shapes.
  """
  if not config.lora.rank:
    return params
  rests = [
    freeze.mask(freeze.globs(config.at(i)), params) for i in range(len(config.starts))
  ]
  throughout = jax.tree.map(lambda *rests: all(rests), *rests)

  def part(node, rests):
    below = {
      n: part(x, rests[n]) if isinstance(x, dict) else x
      for n, x in node.items()
      if rests[n] is not True
    }
    return {n: x for n, x in below.items() if not isinstance(x, dict) or x}

  return part(params, throughout)
