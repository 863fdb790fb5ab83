"""Small diffusion transformers that the tests of the parts around them share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests import small
from unijax.nn.dit import DiT
from unijax.nn.dit_blocks import Condition

STYLES = {  # name -> knobs: every kind of block, position and modulation
  "cross": dict(dit__conditioning="cross"),
  "cross shared": dict(
    dit__conditioning="cross",
    dit__adaln="shared",
    dit__pooled=False,
    dit__qk_norm=False,
  ),
  "joint": dict(dit__conditioning="joint"),
  "joint single": dict(
    dit__conditioning="joint", dit__single_depth=2, dit__positions="rope"
  ),
}
SIZES = dict(dit__depth=2, dit__width=16, dit__heads=2, dit__mlp_width=24)
B, S, E, GRID, CHANNELS = 2, 5, 12, 2, 6


def config(style: str = "cross", **knobs):
  return small.config(**{**SIZES, **STYLES[style], **knobs})


def dit(c, channels: int = CHANNELS, grid: int = GRID) -> DiT:
  return DiT(c.dit, c.model, channels, grid)


def case(seed: int = 0, lengths=(S, 3)):
  """(noised patches, times, condition) of two pictures; the second has padding."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  condition = Condition(draw(B, S, E), jnp.asarray(lengths, jnp.int32))
  return draw(B, GRID**2, CHANNELS), jnp.asarray([0.3, 0.8]), condition


def random_like(shapes, seed: int = 0):
  """Weights none of which is zero: fresh ones would hide whole paths."""
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    name = getattr(path[-1], "key", str(path[-1]))
    scale = leaf.shape[-2] ** -0.5 if name == "kernel" else 0.3
    center = 1.0 if name == "scale" else 0.0
    return jnp.asarray(center + scale * rng.standard_normal(leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(fill, shapes)


_SHAPES, _FORWARD = {}, {}


def shapes(c):
  """Shapes of the parameters, made once for a config."""
  if small.key(c) not in _SHAPES:
    init = lambda: nn.unbox(dit(c).init(jax.random.key(0), *case()))["params"]
    _SHAPES[small.key(c)] = jax.eval_shape(init)
  return _SHAPES[small.key(c)]


def forward(c):
  """(params, x, t, condition) -> prediction, compiled once for a config."""
  if small.key(c) not in _FORWARD:
    module = dit(c)
    apply = lambda params, *args: module.apply({"params": params}, *args)
    _FORWARD[small.key(c)] = jax.jit(apply, compiler_options=small.QUICK)
  return _FORWARD[small.key(c)]


def run(c, *args, seed: int = 0):
  return np.asarray(forward(c)(random_like(shapes(c), seed), *args))
