"""What the halves of the convolutional autoencoder are made of.

Convolutions, norms, residual blocks and attention among places, of pictures
[B, H, W, C] and of clips [B, T, H, W, C].
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.codecs import frames

NORM_EPSILON = 1e-6  # of group norm, added to the variance
SHORTEST = 1e-12  # RMS norm: vectors that are shorter do not get their full length


@dataclasses.dataclass(frozen=True)
class Style:
  """What the layers of one half share.

  Attributes:
    norm: one of `NORMS`.
    groups: of group norm.
    frames: that 3x3 kernels see; 1: they are kernels of pictures.
    dtype: of activations.
  """

  norm: str
  groups: int
  frames: int
  dtype: jnp.dtype

  def conv(self, features: int, **options) -> nn.Module:
    """A 3x3 convolution, over frames, too, where kernels see some."""
    if self.frames == 1:
      return Conv(features, dtype=self.dtype, **options)
    before = self.frames - 1
    return frames.TimeConv(
      features, self.frames, dtype=self.dtype, before=before, **options
    )


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


class RmsNorm(nn.Module):
  """The vector of each place at length sqrt(C), times a scale a channel.

  (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4.) Nothing is added to the mean square.
  """

  @nn.compact
  def __call__(self, x_BHWC):
    C = x_BHWC.shape[-1]
    scale = self.param("scale", nn.initializers.ones_init(), (C,), jnp.float32)
    square = jnp.square(x_BHWC).sum(axis=-1, keepdims=True)
    length = jax.lax.rsqrt(jnp.maximum(square, SHORTEST**2))
    return x_BHWC * length * C**0.5 * scale


def _group_norm(style: Style, name: str) -> nn.Module:
  return nn.GroupNorm(style.groups, epsilon=NORM_EPSILON, name=name)


NORMS = {  # by knob; `spatial` is group norm with a guide
  "group": _group_norm,
  "spatial": _group_norm,
  "rms": lambda style, name: RmsNorm(name=name),
}


class Norm(nn.Module):
  """A norm of each picture or frame by itself, in float32, then SiLU.

  With a guide, vectors at a smaller grid, its channels are scaled and moved by what two
  maps make of the vector at each place (Zheng et al. 2022, arXiv 2209.09002, eq. 4).
  """

  style: Style
  activate: bool = True

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    flat = x_BHWC.reshape(-1, *x_BHWC.shape[-3:]).astype(jnp.float32)
    y = NORMS[self.style.norm](self.style, "norm")(flat).reshape(x_BHWC.shape)
    if guide_BHWC is not None:
      times, plus = (
        enlarged(Conv(y.shape[-1], 1, name=name)(guide_BHWC), y.shape)
        for name in ("times", "plus")
      )
      y = y * times + plus
    return (nn.silu(y) if self.activate else y).astype(x_BHWC.dtype)


def enlarged(x_BHWC, shape):
  """Each place as often as the larger grid of `shape` has it."""
  for axis in (-3, -2):
    x_BHWC = jnp.repeat(x_BHWC, shape[axis] // x_BHWC.shape[axis], axis=axis)
  return x_BHWC


class Residual(nn.Module):
  """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 skip where widths differ."""

  features: int
  style: Style

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    s = self.style
    y = Norm(s, name="norm1")(x_BHWC, guide_BHWC)
    y = s.conv(self.features, name="conv1")(y)
    y = Norm(s, name="norm2")(y, guide_BHWC)
    y = s.conv(self.features, name="conv2")(y)
    if x_BHWC.shape[-1] != self.features:
      x_BHWC = Conv(self.features, 1, dtype=s.dtype, name="skip")(x_BHWC)
    return x_BHWC + y


class SpatialAttention(nn.Module):
  """x + one head of attention among all places of a picture, or of each frame."""

  style: Style

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    *B, H, W, C = x_BHWC.shape
    y = Norm(self.style, activate=False, name="norm")(x_BHWC, guide_BHWC)

    def project(name, y):
      return Conv(C, 1, dtype=self.style.dtype, name=name)(y)

    q, k, v = (project(n, y).reshape(*B, H * W, C) for n in ("query", "key", "value"))
    logits = jnp.einsum("...qc,...kc->...qk", q, k).astype(jnp.float32) * C**-0.5
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    mixed = jnp.einsum("...qk,...kc->...qc", weights, v).reshape(*B, H, W, C)
    return x_BHWC + project("out", mixed)


class Middle(nn.Module):
  """Residual block, attention if asked for, residual block, all at one width."""

  attention: bool
  style: Style

  @nn.compact
  def __call__(self, x_BHWC, guide_BHWC=None):
    features = x_BHWC.shape[-1]
    x = Residual(features, self.style, name="block1")(x_BHWC, guide_BHWC)
    if self.attention:
      x = SpatialAttention(self.style, name="attention")(x, guide_BHWC)
    return Residual(features, self.style, name="block2")(x, guide_BHWC)
