"""The convolutional autoencoder between pixels and a grid of vectors.

Residual blocks with group norm, halvings on the way down and doublings on the way up,
one attention in the middle, and others after the blocks of some levels (Esser et al.
2021, arXiv 2012.09841, table 7; Rombach et al. 2022, arXiv 2112.10752, appendix E.1).
What happens to the vectors in between is the bottleneck's affair
(`unijax.codecs.bottlenecks`).

With `codec.time_stride` above 1 both halves take clips, too: [B, T, ..] in the place of
[B, ..], with what `unijax.codecs.frames` has between frames and latents.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.codecs import frames
from unijax.config_parts import CodecConfig

NORM_EPSILON = 1e-6


def blocks_of(config: CodecConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Residual blocks by level, level 0 at full resolution: (encoder's, decoder's)."""
  down = config.blocks
  if len(down) == 1:
    down *= len(config.multipliers)
  return down, config.decoder_blocks or tuple(n + 1 for n in down)


class Conv(nn.Module):
  """A 3x3 (or `size`) convolution whose output channels may be divided over devices."""

  features: int
  size: int = 3
  stride: int = 1
  padding: str | tuple = "SAME"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC):
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, None, None, "channels")
    )
    return nn.Conv(
      self.features, (self.size, self.size), (self.stride, self.stride),
      self.padding, dtype=self.dtype, kernel_init=init, name="conv",
    )(x_BHWC)  # fmt: skip


class Norm(nn.Module):
  """Group norm over space and each group of channels, in float32, then SiLU.

  With a guide, vectors at a smaller grid, its channels are scaled and moved by what two
  maps make of the vector at each place (Zheng et al. 2022, arXiv 2209.09002, eq. 4).
  """

  groups: int
  activate: bool = True

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    y = nn.GroupNorm(self.groups, epsilon=NORM_EPSILON, name="norm")(
      x_BHWC.astype(jnp.float32)
    )
    if guide_BHWC is not None:
      times, plus = (
        enlarged(Conv(y.shape[-1], 1, name=name)(guide_BHWC), y.shape)
        for name in ("times", "plus")
      )
      y = y * times + plus
    return (nn.silu(y) if self.activate else y).astype(x_BHWC.dtype)


def enlarged(x_BHWC, shape):
  """Each place as often as the larger grid of `shape` has it."""
  for axis in (1, 2):
    x_BHWC = jnp.repeat(x_BHWC, shape[axis] // x_BHWC.shape[axis], axis=axis)
  return x_BHWC


class Residual(nn.Module):
  """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 skip where widths differ."""

  features: int
  groups: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    y = Norm(self.groups, name="norm1")(x_BHWC, guide_BHWC)
    y = Conv(self.features, dtype=self.dtype, name="conv1")(y)
    y = Norm(self.groups, name="norm2")(y, guide_BHWC)
    y = Conv(self.features, dtype=self.dtype, name="conv2")(y)
    if x_BHWC.shape[-1] != self.features:
      x_BHWC = Conv(self.features, 1, dtype=self.dtype, name="skip")(x_BHWC)
    return x_BHWC + y


class SpatialAttention(nn.Module):
  """x + one head of attention among all places of a picture."""

  groups: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    B, H, W, C = x_BHWC.shape
    y = Norm(self.groups, activate=False, name="norm")(x_BHWC, guide_BHWC)

    def project(name, y):
      return Conv(C, 1, dtype=self.dtype, name=name)(y)

    q, k, v = (project(n, y).reshape(B, H * W, C) for n in ("query", "key", "value"))
    logits = jnp.einsum("bqc,bkc->bqk", q, k).astype(jnp.float32) * C**-0.5
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    mixed = jnp.einsum("bqk,bkc->bqc", weights, v).reshape(B, H, W, C)
    return x_BHWC + project("out", mixed)


class Middle(nn.Module):
  """Residual block, attention if asked for, residual block, all at one width."""

  config: CodecConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    c, features = self.config, x_BHWC.shape[-1]
    x = Residual(features, c.groups, self.dtype, name="block1")(x_BHWC, guide_BHWC)
    if c.attention:
      x = SpatialAttention(c.groups, self.dtype, name="attention")(x, guide_BHWC)
    return Residual(features, c.groups, self.dtype, name="block2")(x, guide_BHWC)


class Encoder(nn.Module):
  """Pixels in [-1, 1] -> vectors: [B, H, W, 3] -> [B, H/s, W/s, features].

  Of clips: [B, T, H, W, 3] -> [B, T/t, H/s, W/s, features].
  """

  config: CodecConfig
  features: int  # of the vectors
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BHWC):
    c, picture = self.config, x_BHWC.ndim == 4
    if c.time_stride == 1:
      return self._vectors(x_BHWC)
    flat = x_BHWC.reshape(-1, *x_BHWC.shape[-3:])  # frames one by one
    x = self._vectors(flat)
    x = x.reshape(*x_BHWC.shape[:-3], *x.shape[1:])
    x = frames.of_picture(x, c.time_stride) if picture else x
    x = frames.Shorten(c, self.dtype, name="time")(x)
    if c.project:
      x = frames.TimeConv(self.features, 3, 1, dtype=self.dtype, name="project")(x)
    return x[:, 0] if picture else x

  def _vectors(self, x_BHWC):
    """Of each picture, or frame, by itself."""
    c = self.config
    x = Conv(c.width, dtype=self.dtype, name="enter")(x_BHWC.astype(self.dtype))
    blocks, _ = blocks_of(c)
    for level, multiplier in enumerate(c.multipliers):
      for block in range(blocks[level]):
        width, place = c.width * multiplier, f"down{level}_{block}"
        x = Residual(width, c.groups, self.dtype, name=place)(x)
        if level in c.attention_levels:
          x = SpatialAttention(c.groups, self.dtype, name=f"attend_{place}")(x)
      if level < len(c.multipliers) - 1:
        # Padded after the picture only, as the published weights have it.
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        x = Conv(x.shape[-1], 3, 2, "VALID", self.dtype, name=f"halve{level}")(x)
    x = Middle(c, self.dtype, name="middle")(x)
    x = Norm(c.groups, name="norm")(x)
    inner = c.project_width or self.features
    x = Conv(inner, dtype=self.dtype, name="leave")(x)
    if not c.project or c.time_stride > 1:
      return x
    return Conv(self.features, 1, dtype=self.dtype, name="project")(x)


class Decoder(nn.Module):
  """Vectors -> pixels, about in [-1, 1]: `leave(features(z))`.

  Where `codec.draws` is False there is no more than the first map, `project`, which
  released files of encoders keep.
  """

  config: CodecConfig
  dtype: jnp.dtype

  def setup(self):
    c = self.config
    inner = c.project_width or c.channels
    timed = c.time_stride > 1
    conv = functools.partial(frames.TimeConv, frames=3) if timed else Conv
    self.project = conv(inner, size=1, dtype=self.dtype) if c.project else None
    if not c.draws:
      return
    self.time = frames.Lengthen(c, self.dtype) if timed else None
    widths = [c.width * m for m in c.decoder_multipliers or c.multipliers]
    _, blocks = blocks_of(c)
    self.enter = Conv(widths[-1], dtype=self.dtype)
    self.middle = Middle(c, self.dtype)
    self.up = [
      [Residual(w, c.groups, self.dtype, name=f"up{i}_{b}") for b in range(blocks[i])]
      for i, w in enumerate(widths)
    ]
    self.attend = {
      f"{i}": [
        SpatialAttention(c.groups, self.dtype, name=f"attend_up{i}_{b}")
        for b in range(blocks[i])
      ]
      for i in c.attention_levels
    }
    self.double = [Conv(w, dtype=self.dtype) for w in widths[1:]]
    self.norm = Norm(c.groups)
    self.last = Conv(3, dtype=self.dtype)

  def hidden(self, z_BHWC):
    """All but the last convolution: vectors -> [B, H, W, width], or [B, T, ..]."""
    x, guide = self._enter(z_BHWC.astype(self.dtype))
    if not self.config.draws:
      return x
    clip, x = x.shape[:-3], x.reshape(-1, *x.shape[-3:])
    guide = None if guide is None else guide.reshape(-1, *guide.shape[-3:])
    x = self.middle(self.enter(x), guide)
    for level in reversed(range(len(self.up))):
      attend = self.attend.get(f"{level}", ())
      for block, mix in itertools.zip_longest(self.up[level], attend):
        x = block(x, guide)
        x = mix(x, guide) if mix else x
      if level:
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = self.double[level - 1](x)
    x = self.norm(x, guide)
    return x.reshape(*clip, *x.shape[1:])

  def _enter(self, z):
    """What the first convolution reads, and what guides norms, if anything does."""
    c, picture = self.config, z.ndim == 4
    timed = c.time_stride > 1
    z = z[:, None] if timed and picture else z
    x = self.project(z) if self.project else z
    guide = z if c.decoder_norm == "spatial" else None
    if timed and c.draws:
      x = self.time(x, picture)
      guide = None if guide is None else self.time(guide, picture)
    if timed and picture:
      x, guide = x[:, 0], None if guide is None else guide[:, 0]
    return x, guide

  def leave(self, x_BHWC):
    """The last convolution, in float32."""
    x = self.last(x_BHWC.reshape(-1, *x_BHWC.shape[-3:])).astype(jnp.float32)
    return x.reshape(*x_BHWC.shape[:-3], *x.shape[1:])

  def __call__(self, z_BHWC):
    return self.leave(self.hidden(z_BHWC))
