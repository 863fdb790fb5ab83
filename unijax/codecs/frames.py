"""Frames of a clip: convolutions over time, around the latents or at every level.

No frame sees a later one. Either of two ways makes `codec.time_stride` frames a latent:

- Around the latents (`codec.kernel_frames` 1). Frames become vectors, and vectors
  frames, one by one; what mixes them stands next to the latents, where there are few
  channels. A picture is so many equal frames, and the first one is what is drawn of it
  (Wang et al. 2024, Emu3, arXiv 2409.18869, section 2.2).
- At every level. 3x3 convolutions see `kernel_frames` frames, this one and those before
  it, and some halvings of places (`codec.time_halvings`) halve time, too. The first
  frame has a latent of its own, so that a picture is a clip of one frame and 1 + s k
  frames are 1 + k latents (Wan Team 2025, arXiv 2503.20314, section 4.1.1).

Clips are [B, T, ..] in the place of [B, ..].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config_parts import CodecConfig

EPSILON = 1e-5  # of norms with kept statistics
BEFORE = 2  # frames of zeros


def around(config: CodecConfig) -> bool:
  """Whether frames are mixed around the latents alone."""
  return config.time_stride > 1 and config.kernel_frames == 1


def check(config: CodecConfig, count: int) -> None:
  """Looks at the number of frames of a clip.

  Raises:
    ValueError: they do not make whole latents; naming two numbers that do.
  """
  stride, first = config.time_stride, 0 if around(config) else 1
  over = (count - first) % stride
  if over or count < 1:
    near = [n for n in (count - over, count - over + stride) if n > 0]
    each = f"{stride} after the first, which has its own" if first else f"{stride}"
    raise ValueError(
      f"a clip of {count} frames: codec.time_stride makes one latent of each {each}; "
      f"give {' or '.join(map(str, near))}"
    )


def halvings(config: CodecConfig) -> int:
  """How often time is halved around the latents."""
  return config.time_stride.bit_length() - 1


def blocks(config: CodecConfig) -> int:
  """Residual blocks over time: as many as the encoder's smallest level has."""
  return config.blocks[-1]


class TimeConv(nn.Module):
  """A convolution over frames, and over 3x3 places or each by itself.

  [B, T, H, W, C] -> [B, T', H, W, features]. A picture, [B, H, W, C], becomes what the
  first frame of a clip does: zeros stand before it, so that the kernel's last frame is
  all that acts, and all that is computed.
  """

  features: int
  frames: int = 3
  size: int = 3
  stride: int = 1  # of time
  dtype: jnp.dtype = jnp.float32
  before: int = BEFORE  # frames of zeros

  @nn.compact
  def __call__(self, x):
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, None, None, None, "channels")
    )
    picture, side = x.ndim == 4, self.size // 2
    y = nn.Conv(
      self.features, (self.frames, self.size, self.size), (self.stride, 1, 1),
      ((self.before, 0), (side, side), (side, side)), dtype=self.dtype,
      kernel_init=init, conv_general_dilated=_of_picture if picture else None,
      name="conv",
    )(x[:, None] if picture else x)  # fmt: skip
    return y[:, 0] if picture else y


def _of_picture(x_BTHWC, kernel, strides, padding, **_):
  """What a convolution over time is of one frame after zeros: one over places."""
  y_BHWC = jax.lax.conv_general_dilated(
    x_BTHWC[:, 0], kernel[-1], strides[1:], padding[1:],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip
  return y_BHWC[:, None]


class HalveTime(nn.Module):
  """1 + 2n frames -> 1 + n: y_0 = x_0, and y_j of x_2j and the `frames` - 1 before it.

  In pieces, as clips are encoded elsewhere, the first frame is a piece of its own that
  this convolution is not applied to, and each later piece begins with the last frame of
  the one before; all at once that is this.
  """

  frames: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    C, before = x.shape[-1], self.frames - 3  # before the first of three: x_0
    mix = TimeConv(C, self.frames, 1, 2, self.dtype, before, name="mix")
    if _alone(x):
      if self.is_initializing():
        mix(x)  # its weights are there for clips
      return x
    return jnp.concatenate([x[:, :1], mix(x)], axis=1)


class DoubleTime(nn.Module):
  """1 + n frames -> 1 + 2n: the first one alone, two of each other.

  The convolution makes the channels of two frames of a frame and those before it, and
  the first is none of these: before the second stand zeros. In pieces, as clips are
  decoded elsewhere, the first latent is a piece of its own that this convolution is not
  applied to and does not remember; all at once that is this.
  """

  frames: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    C, before = x.shape[-1], self.frames - 1
    mix = TimeConv(2 * C, self.frames, 1, 1, self.dtype, before, name="mix")
    if _alone(x):
      if self.is_initializing():
        mix(x)  # its weights are there for clips
      return x
    return jnp.concatenate([x[:, :1], two_of_each(mix(x[:, 1:]))], axis=1)


def two_of_each(x_BTHWC):
  """Frames -> twice as many: the first half of the channels of each, then the other."""
  B, T, H, W, C = x_BTHWC.shape
  x = jnp.moveaxis(x_BTHWC.reshape(B, T, H, W, 2, C // 2), 4, 2)
  return x.reshape(B, 2 * T, H, W, C // 2)


def _alone(x) -> bool:
  """Whether there is a picture, or a clip of one frame, whose time has one length."""
  return x.ndim == 4 or x.shape[1] == 1


class KeptNorm(nn.Module):
  """Batch norm by statistics that no step moves, in float32, then SiLU.

  They are those of a release, with the number of batches that they were gathered from;
  in a codec that begins here, mean 0 and variance 1.
  """

  @nn.compact
  def __call__(self, x_BTHWC):
    zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
    shape = x_BTHWC.shape[-1:]
    scale = self.param("scale", ones, shape, jnp.float32)
    bias = self.param("bias", zeros, shape, jnp.float32)
    mean = jax.lax.stop_gradient(self.param("mean", zeros, shape, jnp.float32))
    variance = jax.lax.stop_gradient(self.param("variance", ones, shape, jnp.float32))
    self.param("batches", zeros, (), jnp.float32)
    y = (x_BTHWC.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance + EPSILON)
    return nn.silu(y * scale + bias).astype(x_BTHWC.dtype)


class TimeResidual(nn.Module):
  """x + conv(silu(norm(conv(silu(norm(x)))))) over frames and places."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BTHWC):
    C = x_BTHWC.shape[-1]
    y = KeptNorm(name="norm1")(x_BTHWC)
    y = TimeConv(C, dtype=self.dtype, name="conv1")(y)
    y = KeptNorm(name="norm2")(y)
    return x_BTHWC + TimeConv(C, dtype=self.dtype, name="conv2")(y)


class Shorten(nn.Module):
  """Frames of vectors -> fewer: [B, T, H, W, C] -> [B, T/s, H, W, C]."""

  config: CodecConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BTHWC):
    x, C = x_BTHWC, x_BTHWC.shape[-1]
    for i in range(halvings(self.config)):
      x = nn.silu(TimeConv(C, 4, 3, 2, self.dtype, name=f"halve{i}")(x))
    for i in range(blocks(self.config)):
      x = TimeResidual(self.dtype, name=f"block{i}")(x)
    return x


class Lengthen(nn.Module):
  """Fewer frames of vectors -> all, or of each latent the first alone.

  The first frame sees nothing of the others, so alone it is what it is among them.
  """

  config: CodecConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BTHWC, first: bool):
    x, C = x_BTHWC, x_BTHWC.shape[-1]
    for i in range(blocks(self.config)):
      x = TimeResidual(self.dtype, name=f"block{i}")(x)
    for i in range(halvings(self.config)):
      x = x if first else jnp.repeat(x, 2, axis=1)
      x = nn.silu(TimeConv(C, dtype=self.dtype, name=f"double{i}")(x))
    return x


def of_picture(x_BHWC, count: int):
  """A picture as so many equal frames."""
  return jnp.repeat(x_BHWC[:, None], count, axis=1)
