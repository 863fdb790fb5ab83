"""Patch codecs: how noised patches enter the decoder and denoised ones leave it.

A codec has `encode(inputs, time_BTD) -> (x_BTD, skips)` and
`decode(h_BTD, inputs, time_BTD, skips) -> prediction_BTC`. Values at positions
that hold no patch are arbitrary and never used.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.layers import ACTIVATIONS, Linear, Norm, param
from unijax.types import Inputs


def gathered(inputs: Inputs, x_BTF, images: int, count: int) -> jax.Array:
  """The first patches of the images of a row: [B, T, F] -> [B, I, count, F].

  Patches of an image stand together. What stands for images that are not there is
  arbitrary.
  """
  number = jnp.arange(images)
  first = (inputs.span_BT[:, None] == number[:, None]) & (inputs.patch_BT == 0)[:, None]
  start_BI = jnp.argmax(first, axis=-1)
  index = start_BI[..., None] + jnp.arange(count)
  index = jnp.minimum(index, x_BTF.shape[1] - 1).reshape(x_BTF.shape[0], -1, 1)
  found = jnp.take_along_axis(x_BTF, index, axis=1)
  return found.reshape(x_BTF.shape[0], images, count, -1)


def scattered(inputs: Inputs, x_BIPF) -> jax.Array:
  """All patches of images, back at their positions: [B, I, P, F] -> [B, T, F]."""
  B, _, P, F = x_BIPF.shape
  slot = jnp.maximum(inputs.span_BT, 0) * P + jnp.maximum(inputs.patch_BT, 0)
  return jnp.take_along_axis(x_BIPF.reshape(B, -1, F), slot[..., None], axis=1)


class LinearPatches(nn.Module):
  """One linear map each way (Transfusion section 3.1, footnote 6).

  With model.patch_out "run" what leaves at a position is no patch, but as many latents,
  one after the other in raster order: those of the whole image are put together first.
  """

  config: ModelConfig
  channels: int
  grid: int
  patch_size: int
  images: int

  def setup(self):
    dtype = jnp.dtype(self.config.dtype)
    self.enter = Linear(self.config.width, ("patch", "embed"), dtype, bias=True)
    self.leave = Linear(self.channels, ("embed", "patch"), dtype, bias=True)

  def encode(self, inputs: Inputs, time_BTD):
    return self.enter(inputs.patches_BTC), None

  def decode(self, h_BTD, inputs: Inputs, time_BTD, skips):
    x = self.leave(h_BTD).astype(jnp.float32)
    if self.config.patch_out == "patch":
      return x
    g, p = self.grid, self.patch_size
    runs = gathered(inputs, x, self.images, g * g)
    B, I = runs.shape[:2]
    cut = runs.reshape(B, I, g, p, g, p, -1).swapaxes(3, 4)
    return scattered(inputs, cut.reshape(B, I, g * g, -1))


def _conv(features: int, size: int, dtype, axis: str | None = "channels", **more):
  """A convolution whose output channels may be divided over devices."""
  init = nn.initializers.lecun_normal()
  return nn.Conv(
    features, (size, size), dtype=dtype,
    kernel_init=nn.with_logical_partitioning(init, (None, None, None, axis)), **more,
  )  # fmt: skip


class ResidualBlock(nn.Module):
  """Two 3x3 convolutions with layer norm; the timestep is added in between."""

  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_MHWF, time_MD):
    def conv(name, size=3):
      return _conv(self.features, size, self.dtype, name=name)

    def norm(name, x):
      return nn.LayerNorm(dtype=self.dtype, name=name)(x)

    y = conv("conv1")(nn.silu(norm("norm1", x_MHWF)))
    time = Linear(self.features, ("embed", None), self.dtype, bias=True, name="time")
    y = y + time(nn.silu(time_MD))[:, None, None]
    y = conv("conv2")(nn.silu(norm("norm2", y)))
    if x_MHWF.shape[-1] != self.features:
      x_MHWF = conv("skip", 1)(x_MHWF)
    return x_MHWF + y


class ImagePatches(nn.Module):
  """A codec that sees whole images: gathered from their positions, and put back."""

  config: ModelConfig
  channels: int
  grid: int
  patch_size: int
  images: int  # largest number of images in a row

  def _slots(self, inputs: Inputs, x_BTF):
    """Gathers positions into images: [B, T, F] -> [B, I, P, F]."""
    return gathered(inputs, x_BTF, self.images, self.grid**2)

  def _positions(self, inputs: Inputs, x_BIPF):
    """Scatters images back to positions: [B, I, P, F] -> [B, T, F]."""
    return scattered(inputs, x_BIPF)


class UNetPatches(ImagePatches):
  """U-Net down and up blocks around the decoder (Transfusion section 3.1).

  Down: residual blocks at full resolution, halving until one position a patch is
  left, width doubling; up mirrors it with skip connections. Images are arrays
  [B * I, h, w, c].
  """

  def setup(self):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    self.levels = self.patch_size.bit_length() - 1
    widths = [c.unet_width * 2**i for i in range(self.levels + 1)]
    self.stem = _conv(widths[0], 3, dtype)
    self.down = [
      [ResidualBlock(w, dtype, name=f"down{i}_{j}") for j in range(c.unet_blocks)]
      for i, w in enumerate(widths)
    ]
    self.halve = [
      _conv(widths[i + 1], 3, dtype, strides=(2, 2)) for i in range(self.levels)
    ]
    self.enter = Linear(c.width, (None, "embed"), dtype, bias=True)
    self.back = Linear(widths[-1], ("embed", None), dtype, bias=True)
    self.up = [
      [ResidualBlock(w, dtype, name=f"up{i}_{j}") for j in range(c.unet_blocks)]
      for i, w in enumerate(widths)
    ]
    self.double = [_conv(widths[i], 3, dtype) for i in range(self.levels)]
    self.out_norm = nn.LayerNorm(dtype=dtype)
    side = self.patch_size
    self.leave = _conv(self.channels // side**2, 3, dtype, None)

  def encode(self, inputs: Inputs, time_BTD):
    g, p = self.grid, self.patch_size
    x = self._slots(inputs, inputs.patches_BTC)
    B, I = x.shape[:2]
    x = x.reshape(B * I, g, g, p, p, -1).swapaxes(2, 3).reshape(B * I, g * p, g * p, -1)
    time_MD = self._slots(inputs, time_BTD)[:, :, 0].reshape(B * I, -1)
    x = self.stem(x)
    skips = []
    for level, blocks in enumerate(self.down):
      for block in blocks:
        x = block(x, time_MD)
      skips.append(x)
      if level < self.levels:
        x = self.halve[level](x)
    x = self.enter(x).reshape(B, I, g * g, -1)
    return self._positions(inputs, x), (skips, time_MD)

  def decode(self, h_BTD, inputs: Inputs, time_BTD, skips):
    g, p = self.grid, self.patch_size
    skips, time_MD = skips
    h = self._slots(inputs, h_BTD)
    B, I = h.shape[:2]
    x = self.back(h).reshape(B * I, g, g, -1)
    for level in reversed(range(self.levels + 1)):
      x = jnp.concatenate([x, skips[level]], axis=-1)
      for block in self.up[level]:
        x = block(x, time_MD)
      if level:
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = self.double[level - 1](x)
    x = self.leave(nn.silu(self.out_norm(x)))
    x = x.reshape(B * I, g, p, g, p, -1).swapaxes(2, 3).reshape(B, I, g * g, -1)
    return self._positions(inputs, x).astype(jnp.float32)


class ResponseNorm(nn.Module):
  """Each channel by its size over the image, against the mean of all (Woo et al. 2023,
  eq. 1 to 3), added to what came in."""

  @nn.compact
  def __call__(self, x_MHWF):
    zeros, shape = nn.initializers.zeros_init(), x_MHWF.shape[-1:]
    scale = param(self, "scale", zeros, shape, ("norm",))
    bias = param(self, "bias", zeros, shape, ("norm",))
    x = x_MHWF.astype(jnp.float32)
    square = jnp.square(x).sum(axis=(1, 2), keepdims=True)
    size = jnp.sqrt(jnp.maximum(square, 1e-30))  # of no image, too
    y = x * size / (size.mean(axis=-1, keepdims=True) + 1e-6)
    return (scale * y + bias + x).astype(x_MHWF.dtype)


class ConvNeXtBlock(nn.Module):
  """ConvNeXt V2 (Woo et al. 2023) with an RMS norm; the timestep scales and shifts the
  sum (Hoogeboom et al. 2023; Ma et al. 2024, section 3.1)."""

  eps: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_MHWF, time_MD):
    F = x_MHWF.shape[-1]

    def linear(features, axes, name):
      return Linear(features, axes, self.dtype, bias=True, name=name)

    y = _conv(F, 7, self.dtype, feature_group_count=F, name="depthwise")(x_MHWF)
    y = linear(4 * F, (None, "mlp"), "up")(Norm(self.eps, name="norm")(y))
    y = ResponseNorm(name="response")(ACTIVATIONS["gelu"](y))
    x_MHWF = x_MHWF + linear(F, ("mlp", None), "down")(y)
    change = linear(2 * F, ("embed", None), "time")(nn.silu(time_MD))[:, None, None]
    scale, shift = jnp.split(change, 2, axis=-1)
    return x_MHWF * (1 + scale) + shift


class ConvNeXtPatches(ImagePatches):
  """ConvNeXt blocks on both sides of the decoder, at one position a patch.

  Ma et al. 2024, section 3.1: a linear map of patches, blocks, a map to the decoder's
  width; back by a norm and a map, beside what the blocks gave before, blocks of twice
  the width, a norm and a map to patches.
  """

  def setup(self):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    width, eps, count = c.unet_width, c.norm_eps, range(c.unet_blocks)
    self.enter = Linear(width, ("patch", None), dtype, bias=True)
    self.down = [ConvNeXtBlock(eps, dtype, name=f"down{i}") for i in count]
    self.align = Linear(c.width, (None, "embed"), dtype, bias=True)
    self.back_norm = Norm(eps)
    self.back = Linear(width, ("embed", None), dtype, bias=True)
    self.join_norm = Norm(eps)
    self.up = [ConvNeXtBlock(eps, dtype, name=f"up{i}") for i in count]
    self.out_norm = Norm(eps)
    self.leave = Linear(self.channels, (None, "patch"), dtype, bias=True)

  def encode(self, inputs: Inputs, time_BTD):
    x = self.enter(self._slots(inputs, inputs.patches_BTC))
    B, I, P, F = x.shape
    x = x.reshape(B * I, self.grid, self.grid, F)
    time_MD = self._slots(inputs, time_BTD)[:, :, 0].reshape(B * I, -1)
    for block in self.down:
      x = block(x, time_MD)
    entered = self.align(x.reshape(B, I, P, F))
    return self._positions(inputs, entered), (x, time_MD)

  def decode(self, h_BTD, inputs: Inputs, time_BTD, skips):
    skip, time_MD = skips
    x = self.back(self.back_norm(self._slots(inputs, h_BTD)))
    B, I, P, _ = x.shape
    x = self.join_norm(x).reshape(skip.shape)
    x = jnp.concatenate([x, skip], axis=-1)
    for block in self.up:
      x = block(x, time_MD)
    x = self.leave(self.out_norm(x)).reshape(B, I, P, -1)
    return self._positions(inputs, x).astype(jnp.float32)


PATCH_CODECS = {
  "linear": LinearPatches,
  "unet": UNetPatches,
  "convnext": ConvNeXtPatches,
}
