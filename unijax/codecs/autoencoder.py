"""The convolutional autoencoder between pixels and a grid of vectors.

Residual blocks with norms, halvings on the way down and doublings on the way up, one
attention in the middle, and others after the blocks of some levels (Esser et al. 2021,
arXiv 2012.09841, table 7; Rombach et al. 2022, arXiv 2112.10752, appendix E.1). What
happens to the vectors in between is the bottleneck's affair
(`unijax.codecs.bottlenecks`).

With `codec.time_stride` or `codec.kernel_frames` above 1 both halves take clips, too:
[B, T, ..] in the place of [B, ..], with what `unijax.codecs.frames` has around the
latents or at every level.
"""

import functools
import itertools

import flax.linen as nn
import jax.numpy as jnp

from unijax.codecs import frames
from unijax.codecs.layers import Conv, Middle, Norm, Residual, SpatialAttention, Style
from unijax.config_parts import CodecConfig


def blocks_of(config: CodecConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Residual blocks by level, level 0 at full resolution: (encoder's, decoder's)."""
  down = config.blocks
  if len(down) == 1:
    down *= len(config.multipliers)
  return down, config.decoder_blocks or tuple(n + 1 for n in down)


class Encoder(nn.Module):
  """Pixels in [-1, 1] -> vectors: [B, H, W, 3] -> [B, H/s, W/s, features].

  Of clips: [B, T, H, W, 3] -> [B, T', H/s, W/s, features]; see `frames` for T'.

  Raises:
    ValueError: frames of a clip that do not make whole latents.
  """

  config: CodecConfig
  features: int  # of the vectors
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BHWC):
    c, picture = self.config, x_BHWC.ndim == 4
    if not picture:
      frames.check(c, x_BHWC.shape[1])
    x = self._vectors(x_BHWC.astype(self.dtype))
    if not frames.around(c):
      return x
    x = frames.of_picture(x, c.time_stride) if picture else x
    x = frames.Shorten(c, self.dtype, name="time")(x)
    if c.project:
      x = frames.TimeConv(self.features, 3, 1, dtype=self.dtype, name="project")(x)
    return x[:, 0] if picture else x

  def _vectors(self, x):
    """What there is before frames are mixed around the latents, if they are."""
    c = self.config
    style = Style(c.encoder_norm, c.groups, c.kernel_frames, self.dtype)
    x = style.conv(c.width, name="enter")(x)
    blocks, _ = blocks_of(c)
    for level, multiplier in enumerate(c.multipliers):
      for block in range(blocks[level]):
        width, place = c.width * multiplier, f"down{level}_{block}"
        x = Residual(width, style, name=place)(x)
        if level in c.attention_levels:
          x = SpatialAttention(style, name=f"attend_{place}")(x)
      if level < len(c.multipliers) - 1:
        x = self._halved(x, level)
    x = Middle(c.attention, style, name="middle")(x)
    x = Norm(style, name="norm")(x)
    x = style.conv(c.project_width or self.features, name="leave")(x)
    if not c.project or frames.around(c):
      return x
    return Conv(self.features, 1, dtype=self.dtype, name="project")(x)

  def _halved(self, x, level: int):
    """Half as many places, and frames, if time is halved here, too."""
    # Padded after the picture only, as the published weights have it.
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 3) + ((0, 1), (0, 1), (0, 0)))
    x = Conv(x.shape[-1], 3, 2, "VALID", self.dtype, name=f"halve{level}")(x)
    if level not in self.config.time_halvings:
      return x
    kernel = self.config.kernel_frames
    return frames.HalveTime(kernel, self.dtype, name=f"halve_time{level}")(x)


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
    timed = frames.around(c)
    conv = functools.partial(frames.TimeConv, frames=3) if timed else Conv
    self.project = conv(inner, size=1, dtype=self.dtype) if c.project else None
    if not c.draws:
      return
    self.time = frames.Lengthen(c, self.dtype) if timed else None
    style = Style(c.decoder_norm, c.groups, c.kernel_frames, self.dtype)
    widths = [c.width * m for m in c.decoder_multipliers or c.multipliers]
    _, blocks = blocks_of(c)
    self.enter = style.conv(widths[-1])
    self.middle = Middle(c.attention, style)
    self.up = [
      [Residual(w, style, name=f"up{i}_{b}") for b in range(blocks[i])]
      for i, w in enumerate(widths)
    ]
    self.attend = {
      f"{i}": [
        SpatialAttention(style, name=f"attend_up{i}_{b}") for b in range(blocks[i])
      ]
      for i in c.attention_levels
    }
    self.double = [
      Conv(w // 2 if c.narrow_doublings else w, dtype=self.dtype) for w in widths[1:]
    ]
    self.double_time = {
      f"{i}": frames.DoubleTime(c.kernel_frames, self.dtype, name=f"double_time{i}")
      for i in c.time_halvings
    }
    self.norm = Norm(style)
    self.last = style.conv(3)

  def hidden(self, z_BHWC):
    """All but the last convolution: vectors -> [B, H, W, width], or [B, T, ..]."""
    x, guide = self._enter(z_BHWC.astype(self.dtype))
    if not self.config.draws:
      return x
    x = self.middle(self.enter(x), guide)
    for level in reversed(range(len(self.up))):
      attend = self.attend.get(f"{level}", ())
      for block, mix in itertools.zip_longest(self.up[level], attend):
        x = block(x, guide)
        x = mix(x, guide) if mix else x
      if level:
        x = self._doubled(x, level - 1)
    return self.norm(x, guide)

  def _doubled(self, x, level: int):
    """Twice as many places, and frames, if time was halved here, too."""
    if lengthen := self.double_time.get(f"{level}"):
      x = lengthen(x)
    x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
    return self.double[level](x)

  def _enter(self, z):
    """What the first convolution reads, and what guides norms, if anything does."""
    c, picture = self.config, z.ndim == 4
    timed = frames.around(c)
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
    return self.last(x_BHWC).astype(jnp.float32)

  def __call__(self, z_BHWC):
    return self.leave(self.hidden(z_BHWC))
