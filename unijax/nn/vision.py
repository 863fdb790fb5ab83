"""Pictures in, features out: a vision transformer (Dosovitskiy et al. 2021).

  x = patches @ kernel + positions       before them a class token and registers, if any
  h = norm(encoder(x))                   every token sees every token
  features = h of the patches            pooled = one vector a picture, of `POOLS`

Features may be taken some blocks earlier, and without the norm. Pixels come as float32
in [-1, 1]; `vision.mean` and `vision.std` make of them what the encoder was trained on.
Pictures are squares of one size, or of any shape, in patches (`unijax.nn.places`).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unijax.config_parts import VisionConfig
from unijax.nn import places as at
from unijax.nn.encoder import (
  Encoder,
  EncoderAttention,
  FeedForward,
  Norm,
  everything,
)
from unijax.nn.layers import Linear, param
from unijax.nn.logical import constrain


def normalised(pixels_BHWC: jax.Array) -> jax.Array:
  """uint8 pixels -> float32 in [-1, 1]."""
  return pixels_BHWC.astype(jnp.float32) / 127.5 - 1.0


def standardised(pixels_BHWC: jax.Array, config: VisionConfig) -> jax.Array:
  """Pixels in [-1, 1] -> (p - mean) / std, where p are the same pixels in [0, 1]."""
  mean, std = (np.asarray(x, np.float32) for x in (config.mean, config.std))
  if (mean == 0.5).all() and (std == 0.5).all():
    return pixels_BHWC
  return (pixels_BHWC + (1.0 - 2.0 * mean)) / (2.0 * std)


def cut(pixels_BHWC: jax.Array, size: int) -> jax.Array:
  """Cuts pictures into patches in raster order: [B, P, size * size * 3], rows first.

  What stands right of the last whole patch, or below it, is left out.
  """
  B, height, width, channels = pixels_BHWC.shape
  x = pixels_BHWC[:, : height // size * size, : width // size * size]
  x = x.reshape(B, height // size, size, width // size, size, channels)
  return x.swapaxes(2, 3).reshape(B, -1, size * size * channels)


def sincos(grid: int, width: int) -> np.ndarray:
  """Fixed positions of a square grid: float32 [grid^2, width].

  A quarter of the channels each are sines and cosines of the row and of the column, of
  geometric frequencies down to 1 / 10,000 (Chen et al. 2021, section 4).
  """
  quarter = width // 4
  frequencies = 10000.0 ** (-np.arange(quarter) / quarter)
  place = np.arange(grid)[:, None] * frequencies
  waves = np.concatenate([np.sin(place), np.cos(place)], axis=-1)  # [grid, width / 2]
  rows = np.broadcast_to(waves[:, None], (grid, grid, width // 2))
  columns = np.broadcast_to(waves[None], (grid, grid, width // 2))
  table = np.concatenate([rows, columns], axis=-1).reshape(grid**2, width)
  return table.astype(np.float32)


def fixed(key, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
  """The first value of a table [grid^2, width] that is not trained: `sincos`."""
  del key
  return jnp.asarray(sincos(math.isqrt(shape[0]), shape[1]), dtype)


def corner(place, grid: int, side: int):
  """Places in a grid of `grid` a side -> the same rows and columns in one of `side`."""
  return place if grid == side else place // grid * side + place % grid


# Sharpness of the cubic kernel, and whether it widens when a table shrinks (then the
# result is smooth). Both exist in released encoders.
RESIZES = {"bicubic": (-0.75, False), "smooth": (-0.5, True)}


def resize_matrix(old: int, new: int, resize: str) -> np.ndarray:
  """Weights [new, old] that resample a line of `old` values at `new` places.

  Keys 1981, eq. 8 with -a = 3/4 or 1/2: a piecewise cubic kernel over four values, of
  which those beyond an end count as that end ("bicubic") or not at all ("smooth", the
  weights then sum to one). Values stand in the middle of equal intervals.
  """
  a, smooth = RESIZES[resize]
  width = max(old / new, 1.0) if smooth else 1.0
  center = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
  place = np.arange(-2 - old, 2 * old + 2)
  x = np.abs(place - center) / width
  near = (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = a * (x**3 - 5 * x**2 + 8 * x - 4)
  weight = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
  if smooth:
    weight = weight * ((place >= 0) & (place < old))
  matrix = np.zeros((new, old))
  np.add.at(matrix.T, np.clip(place, 0, old - 1), weight.T)
  return matrix / matrix.sum(axis=1, keepdims=True)


def resized(table_PD: jax.Array, new: int, resize: str) -> jax.Array:
  """A table of a square grid at another grid of `new` places a side: [new^2, D]."""
  old = math.isqrt(table_PD.shape[0])
  if old == new:
    return table_PD
  if resize == "corner":
    return table_PD[corner(np.arange(new**2), new, old)]
  w = jnp.asarray(resize_matrix(old, new, resize), jnp.float32)
  grid = table_PD.reshape(old, old, -1)
  exact = jax.lax.Precision.HIGHEST
  grid = jnp.einsum("ya,xb,abd->yxd", w, w, grid, precision=exact)
  return grid.reshape(new**2, -1)


class AttentionPool(nn.Module):
  """One learned query looks at all patches; a feed-forward layer follows.

  Multihead attention pooling of Lee et al. 2019, with one seed.
  """

  config: VisionConfig

  @nn.compact
  def __call__(self, h_BTD):
    c = self.config
    init = nn.initializers.normal(c.width**-0.5)
    probe = param(self, "probe", init, (1, c.width), (None, "embed"))
    probe = jnp.broadcast_to(probe.astype(h_BTD.dtype), (h_BTD.shape[0], 1, c.width))
    attention = EncoderAttention(c, name="attention")
    y = attention(probe, everything(), source_BSE=h_BTD)
    norm = Norm(c.norm_eps, kind=c.norm_kind, name="norm")
    y = y + FeedForward(c, name="mlp")(norm(y))
    return y[:, 0]


class MeanPool(nn.Module):
  """The mean of the patches."""

  config: VisionConfig

  def __call__(self, h_BTD):
    prefix = prefix_length(self.config)
    return h_BTD[:, prefix:].mean(axis=1, dtype=jnp.float32).astype(h_BTD.dtype)


class ClassPool(nn.Module):
  """The class token."""

  config: VisionConfig

  def __call__(self, h_BTD):
    return h_BTD[:, 0]


POOLS = {"class": ClassPool, "mean": MeanPool, "attention": AttentionPool}


def prefix_length(config: VisionConfig) -> int:
  """Tokens that stand before the patches: the class token and the registers."""
  return (config.pool == "class") + config.registers


class VisionTransformer(nn.Module):
  """The encoder of pictures.

  Attributes:
    config: its shape.
    image_size: pixels a side.
    maskable: has a vector that stands in for hidden patches, as with
      `vision.mask_token`.
    pooled: makes one vector of a picture, too; without, there are no parameters for it.
      Blocks and a norm that features do without stay all the same.
    factor: patches a side that stand together in pictures of any shape.
    whole: what stands before the patches is a part of the features.
  """

  config: VisionConfig
  image_size: int
  maskable: bool = False
  pooled: bool = True
  factor: int = 1
  whole: bool = False

  @property
  def grid(self) -> int:
    """Patches a side."""
    return self.image_size // self.config.patch_size

  @property
  def side(self) -> int:
    """Places a side of the table of positions."""
    return self.config.position_grid or self.grid

  @nn.compact
  def __call__(self, pixels_BHWC, hidden_BP=None, grid_B2=None):
    """Encodes.

    Args:
      pixels_BHWC: float32 in [-1, 1], square of `image_size`; or with a grid patches:
        [B, P, pixels of one, 3]; or patches of anything else, which are taken as they
        are: [B, grid^2, numbers of one].
      hidden_BP: bool, patches whose content the encoder must not see.
      grid_B2: of pictures of any shape; see `places.native`.

    Returns:
      (pooled [B, D] or None, features of the patches [B, P, D], or of all positions).
    """
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    grid = self.grid
    embed = Linear(c.width, ("patch", "embed"), dtype, bias=c.patch_bias, name="patch")
    x = pixels_BHWC
    if x.ndim > 3:
      x = standardised(x, c)
    if grid_B2 is None:
      places, x = at.square(grid), x if x.ndim == 3 else cut(x, c.patch_size)
    else:
      places = at.native(grid_B2, x.shape[1], self.factor)
      x = x.reshape(*x.shape[:2], -1)
    x = embed(jnp.tile(x, c.frames) if c.frames > 1 else x)
    normal = nn.initializers.normal(0.02)
    if self.maskable or c.mask_token:
      mask = param(self, "mask", normal, (c.width,), ("embed",)).astype(dtype)
      if hidden_BP is not None:
        x = jnp.where(hidden_BP[..., None], mask, x)
    if c.pool == "class":
      x = _before(x, param(self, "class", normal, (1, c.width), (None, "embed")))
    if c.positions == "learned":
      first, rows = x.shape[1] - grid**2, self.side**2
      shape = (first + rows, c.width)
      place = param(self, "position", normal, shape, (None, "embed"))
      patches = resized(place[first:], grid, c.position_resize)
      x = x + jnp.concatenate([place[:first], patches]).astype(dtype)
    elif c.positions == "sincos":
      place = np.pad(sincos(grid, c.width), ((x.shape[1] - grid**2, 0), (0, 0)))
      x = x + jnp.asarray(place, dtype)
    if c.registers:  # Darcet et al. 2024; behind the class token, without a position
      shape = (c.registers, c.width)
      registers = param(self, "registers", normal, shape, (None, "embed"))
      first = x.shape[1] - grid**2
      x = jnp.concatenate([x[:, :first], _before(x[:, first:], registers)], axis=1)
    if c.embed_norm:
      x = Norm(c.norm_eps, kind=c.norm_kind, name="embed_norm")(x)
    prefix, rotation = prefix_length(c), None
    if c.rope_grid:  # scaled as in Fang et al. 2023, or not
      scale = c.rope_grid / grid if c.rope_grid > 0 else 1.0
      rotation = at.rotation(places, scale, prefix, c.width // c.heads)
    near = at.near(places, c.window) if c.window else None
    last, kept = Encoder(c, name="encoder")(
      x, at.seen(places), rotation, c.skip_blocks, near, c.whole_blocks
    )
    norm = Norm(c.norm_eps, kind=c.norm_kind, name="final_norm")
    h = norm(last) if c.last_norm else last
    pooled = POOLS[c.pool](c, name="pool")(h) if self.pooled else None
    if c.features_norm:
      kept = norm(kept) if c.skip_blocks else h
    kept = kept if self.whole else kept[:, prefix:]
    return pooled, constrain(kept, "batch", None, "act_embed")


def _before(x_BTD, tokens_LD):
  """The same tokens before every sequence."""
  shape = (x_BTD.shape[0], *tokens_LD.shape)
  return jnp.concatenate(
    [jnp.broadcast_to(tokens_LD.astype(x_BTD.dtype), shape), x_BTD], 1
  )
