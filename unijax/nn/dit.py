"""A diffusion transformer: noised patches of one picture a row, and a condition.

  x = linear(patches) (+ 2-D sines)           steer = embed(t) (+ embed(guidance))
                                                    (+ mlp(pooled condition))
  cross   x = blocks(x, condition)            each block attends to the condition
  joint   x, y = double blocks(x, linear(condition)), then single blocks on [x, y]
  prediction = linear(change(x, steer))

Peebles & Xie 2023; `cross` as in Chen et al. 2023 (PixArt-alpha), `joint` as in Esser
et al. 2024 and FLUX.1. Condition vectors carry no positions here: whatever made them
has put their order into them, or it does not matter.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import DitConfig, ModelConfig
from unijax.nn import rope
from unijax.nn.attention import pick_backend
from unijax.nn.dit_blocks import (
  PARTS,
  Condition,
  CrossBlock,
  DoubleBlock,
  DualBlock,
  Modulation,
  SingleBlock,
  Steer,
  change,
  norm_eps,
)
from unijax.nn.layers import Linear, param
from unijax.nn.logical import constrain
from unijax.nn.timestep import TimeEmbedding
from unijax.nn.transformer import REMAT


class DiT(nn.Module):
  """Predicts what `diffusion.predict` names from noised patches and a condition.

  Attributes:
    config: sizes and style.
    model: gives dtype, remat, attention back end, and where `config` does not say
      them norm_eps and rope_theta.
    channels: numbers in a patch.
    grid: patches a side.
    guidance_told: scale of guidance, with `dit.guidance`.
  """

  config: DitConfig
  model: ModelConfig
  channels: int
  grid: int
  guidance_told: float = 1.0

  @nn.compact
  def __call__(self, x_BPC, time_B, condition: Condition) -> jax.Array:
    """Noised patches [B, P, C] at times [B] -> float32 prediction [B, P, C].

    Patches are in raster order.
    """
    c, dtype = self.config, jnp.dtype(self.model.dtype)
    x_BPD = Linear(c.width, ("patch", "embed"), dtype, bias=True, name="enter")(x_BPC)
    if c.positions == "sincos":
      x_BPD = x_BPD + sincos(self.grid, c.width).astype(dtype)
    elif c.positions == "table":
      x_BPD = x_BPD + self._middle().astype(dtype)
    rotation = None
    if c.positions == "rope":
      rotation = _rotation(c, self.grid, c.rope_theta or self.model.rope_theta)
    condition = condition.replace(vectors_BSE=condition.vectors_BSE.astype(dtype))
    steer = self._steer(time_B, condition)
    x_BPD = constrain(x_BPD, "batch", "sequence", "act_embed")
    x_BPD = CONDITIONING[c.conditioning](self, c, x_BPD, condition, steer, rotation)
    own = steer.replace(shared_BMD=None)
    shift, scale = Modulation(2, c.width, dtype, name="final_modulation")(own)
    y = change(x_BPD, shift, scale, norm_eps(c, self.model))
    leave = Linear(
      self.channels, ("embed", "patch"), dtype, bias=True, scale=0.0, name="leave"
    )
    return leave(y).astype(jnp.float32)

  def _steer(self, time_B, condition: Condition) -> Steer:
    c, dtype = self.config, jnp.dtype(self.model.dtype)
    vector_BD = self._waves("time")(time_B)
    if c.guidance:
      vector_BD = vector_BD + self._waves("guidance")(
        jnp.full_like(time_B, self.guidance_told)
      )
    if c.pooled:
      pooled = condition.pooled_BE if c.pooled_width else condition.mean_BE()
      y = Linear(c.width, (None, "embed"), dtype, bias=True, name="pooled_in")(pooled)
      out = Linear(c.width, ("embed", None), dtype, bias=True, name="pooled_out")
      vector_BD = vector_BD + out(nn.silu(y))
    shared = None
    if c.adaln == "shared":
      shared = Modulation(PARTS, c.width, dtype, name="modulation")(
        Steer(vector_BD, None)
      )
      shared = jnp.concatenate(shared, axis=1)
    return Steer(vector_BD, shared)

  def _waves(self, name: str) -> TimeEmbedding:
    c = self.config
    return TimeEmbedding(
      c.width, jnp.dtype(self.model.dtype), c.time_waves, c.time_scale,
      c.time_features, name=name,
    )  # fmt: skip

  def _middle(self) -> jax.Array:
    """Vectors of the grid's places, from the middle of a larger table: [P, D].

    Fresh ones are sines over the whole table of as many places as the grid has (Esser
    et al. 2024, section 5.3.2).
    """
    width = self.config.width
    side = self.config.position_grid or self.grid
    first, step = (side - self.grid) // 2, self.grid / side
    table = param(
      self, "positions", lambda *_: sincos(side, width, step), (side * side, width),
      (None, "embed"),
    )  # fmt: skip
    here = slice(first, first + self.grid)
    return table.reshape(side, side, width)[here, here].reshape(-1, width)

  def enter_condition(self, condition: Condition) -> jax.Array:
    """The condition vectors at the width of the blocks: [B, S, D]."""
    c, dtype = self.config, jnp.dtype(self.model.dtype)
    y = Linear(c.width, (None, "embed"), dtype, bias=True, name="enter_condition")(
      condition.vectors_BSE
    )
    return constrain(y, "batch", "sequence", "act_embed")

  def blocks(self, kind: type, name: str, length: int, positions: int, carry, *rest):
    """Scans `length` blocks of one kind over `positions` positions."""
    block = kind
    if self.model.remat != "none":
      block = nn.remat(block, policy=REMAT[self.model.remat], prevent_cse=False)
    scanned = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(nn.broadcast,) * len(rest),
      length=length,
      unroll=math.gcd(self.model.scan_unroll, length),
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    backend = self.backend(carry, positions)
    return scanned(self.config, self.model, backend, name=name)(carry, *rest)[0]

  def backend(self, carry, positions: int) -> str:
    """What mixes rows of this many positions; initial rows are a dummy."""
    if self.is_initializing():
      return "dense"
    heads = self.config.heads
    model = dataclasses.replace(self.model, heads=heads, kv_heads=heads)
    return pick_backend(model, jax.tree.leaves(carry)[0].shape[0], positions)


def _cross(
  dit: DiT, c: DitConfig, x_BPD, condition: Condition, steer: Steer, rotation
):  # fmt: skip
  """Blocks that attend to the condition."""
  condition = condition.replace(vectors_BSE=dit.enter_condition(condition))
  return dit.blocks(
    CrossBlock, "blocks", c.depth, x_BPD.shape[1], x_BPD, condition, steer,
    rotation,
  )  # fmt: skip


def _joint(
  dit: DiT, c: DitConfig, x_BPD, condition: Condition, steer: Steer, rotation
):  # fmt: skip
  """Double blocks, then single ones; the patches stand before the condition."""
  P = x_BPD.shape[1]
  y_BSD = dit.enter_condition(condition)
  T, end_B = P + y_BSD.shape[1], P + condition.length_B
  double = c.depth if c.single_depth else c.depth - 1
  streams = (x_BPD, y_BSD)
  for kind, name, count in (
    (DualBlock, "dual_blocks", c.dual_depth),
    (DoubleBlock, "blocks", double - c.dual_depth),
  ):
    if count:
      streams = dit.blocks(kind, name, count, T, streams, end_B, steer, rotation)
  if (
    not c.single_depth
  ):  # nothing reads what the last block would make of the condition
    backend = dit.backend(streams, T)
    last = DoubleBlock(c, dit.model, backend, last=True, name="last_block")
    return last(streams, end_B, steer, rotation)[0][0]
  z_BTD = jnp.concatenate(streams, axis=1)
  if rotation is not None:  # the condition stands at position 0, where nothing turns
    sin, cos = rotation
    still = ((0, 0), (0, T - P), (0, 0), (0, 0))
    rotation = (jnp.pad(sin, still), jnp.pad(cos, still, constant_values=1.0))
  z_BTD = dit.blocks(
    SingleBlock, "single_blocks", c.single_depth, T, z_BTD, end_B, steer, rotation
  )
  return z_BTD[:, :P]


CONDITIONING = {"cross": _cross, "joint": _joint}


def sincos(grid: int, width: int, step: float = 1.0) -> jax.Array:
  """Fixed 2-D positions, float32 [grid^2, width]: half of the row, half of the column.

  Places are `step` apart. Sines and cosines of Vaswani et al. 2017, one axis each as in
  Dosovitskiy et al. 2021.
  """
  quarter = width // 4
  frequencies = 10000.0 ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)
  angle = step * jnp.arange(grid, dtype=jnp.float32)[:, None] * frequencies
  one = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  row = jnp.broadcast_to(one[:, None], (grid, grid, 2 * quarter))
  column = jnp.broadcast_to(one[None], (grid, grid, 2 * quarter))
  return jnp.concatenate([row, column], axis=-1).reshape(grid * grid, -1)


def _rotation(c: DitConfig, grid: int, theta: float):
  """(sin, cos), each [1, P, 1, head_dim / 2], of the places of a grid.

  With `rope_axes` every axis has pairs of all frequencies (FLUX.1), else axes share
  them.
  """
  place = jnp.arange(grid * grid, dtype=jnp.int32)
  position = jnp.stack([place * 0, place // grid, place % grid], axis=-1)[None]
  if not c.rope_axes:
    return rope.rotation(position, c.width // c.heads, theta, "grid")
  angles = [
    position[..., axis, None] * rope.frequencies(width, theta)
    for axis, width in enumerate(c.rope_axes)
  ]
  angle = jnp.concatenate(angles, axis=-1)[:, :, None]
  return jnp.sin(angle), jnp.cos(angle)
