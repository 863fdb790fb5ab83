"""Frames of a clip: convolutions over time, around the latents of an autoencoder.

Frames become vectors, and vectors frames, one by one; what mixes them stands next to
the latents, where there are few channels. Zeros stand before the first frame, so that
no frame sees a later one. Of `codec.time_stride` frames there is one latent; a picture
is so many equal frames, and the first one is what is drawn of it (Wang et al. 2024,
Emu3, arXiv 2409.18869, section 2.2).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config_parts import CodecConfig

EPSILON = 1e-5  # of norms with kept statistics
BEFORE = 2  # frames of zeros


def halvings(config: CodecConfig) -> int:
  """How often time is halved."""
  return config.time_stride.bit_length() - 1


def blocks(config: CodecConfig) -> int:
  """Residual blocks over time: as many as the encoder's smallest level has."""
  return config.blocks[-1]


class TimeConv(nn.Module):
  """A convolution over frames, and over 3x3 places or each by itself."""

  features: int
  frames: int = 3
  size: int = 3
  stride: int = 1  # of time
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x_BTHWC):
    init = nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, None, None, None, "channels")
    )
    side = self.size // 2
    return nn.Conv(
      self.features, (self.frames, self.size, self.size), (self.stride, 1, 1),
      ((BEFORE, 0), (side, side), (side, side)), dtype=self.dtype, kernel_init=init,
      name="conv",
    )(x_BTHWC)  # fmt: skip


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
