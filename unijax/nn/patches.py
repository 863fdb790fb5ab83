"""Patch codecs: how noised patches enter the decoder and denoised ones leave it.

A codec has `encode(inputs, time_BTD) -> (x_BTD, skips)` and
`decode(h_BTD, inputs, time_BTD, skips) -> prediction_BTC`. Values at positions
that hold no patch are arbitrary and never used.
"""

import flax.linen as nn
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.layers import Linear
from unijax.types import Inputs


class LinearPatches(nn.Module):
  """One linear map each way (Transfusion section 3.1, footnote 6)."""

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
    return self.leave(h_BTD).astype(jnp.float32)


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


class UNetPatches(nn.Module):
  """U-Net down and up blocks around the decoder (Transfusion section 3.1).

  Down: residual blocks at full resolution, halving until one position a patch is
  left, width doubling; up mirrors it with skip connections. Images are gathered from
  their positions into [B * I, h, w, c] and scattered back.
  """

  config: ModelConfig
  channels: int
  grid: int
  patch_size: int
  images: int  # largest number of images in a row

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

  def _slots(self, inputs: Inputs, x_BTF):
    """Gathers positions into images: [B, T, F] -> [B, I, P, F]."""
    number = jnp.arange(self.images)
    first = (inputs.span_BT[:, None] == number[:, None]) & (inputs.patch_BT == 0)[
      :, None
    ]
    start_BI = jnp.argmax(first, axis=-1)
    index = start_BI[..., None] + jnp.arange(self.grid**2)
    index = jnp.minimum(index, x_BTF.shape[1] - 1).reshape(x_BTF.shape[0], -1, 1)
    slots = jnp.take_along_axis(x_BTF, index, axis=1)
    return slots.reshape(x_BTF.shape[0], self.images, self.grid**2, -1)

  def _positions(self, inputs: Inputs, x_BIPF):
    """Scatters images back to positions: [B, I, P, F] -> [B, T, F]."""
    B, _, P, F = x_BIPF.shape
    slot = jnp.maximum(inputs.span_BT, 0) * P + jnp.maximum(inputs.patch_BT, 0)
    return jnp.take_along_axis(x_BIPF.reshape(B, -1, F), slot[..., None], axis=1)

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


PATCH_CODECS = {"linear": LinearPatches, "unet": UNetPatches}
