"""Blocks that only denoise, between the decoder and the head of its patches.

  u = blocks(out(gelu(in(h))))           h of the decoder; u has a width of its own
  u = norm(u) * (1 + scale) + shift

The blocks see what those of the decoder see, text too. At positions of an image its
timestep shifts and scales what enters a branch and gates what the branch adds, by a map
of each block that begins at zero (adaLN-Zero of Peebles & Xie 2023, section 3.2); at
other positions a branch is as it is (Xie et al. 2025, section 3.2).
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.config_parts import DenoiserConfig
from unijax.nn import modality
from unijax.nn.layers import ACTIVATIONS, Linear
from unijax.nn.patches import gathered
from unijax.nn.transformer import Block, Transformer
from unijax.types import Cache, Inputs


def shape(model: ModelConfig, d: DenoiserConfig) -> ModelConfig:
  """What `Transformer` must know of the blocks: SwiGLU, RMS norms, no biases; of a
  decoder they have where positions are, the dtype and how attention is computed."""
  return dataclasses.replace(
    model, depth=d.depth, width=d.width, heads=d.heads, kv_heads=d.kv_heads,
    head_dim=d.head_dim, mlp_width=d.mlp_width, norm_eps=d.norm_eps,
    qk_norm_eps=d.last_eps, rope_theta=d.rope_theta, rope_factor=d.rope_factor,
    rope_low=d.rope_low, rope_high=d.rope_high, rope_length=d.rope_length,
    rope_fraction=1.0, rope_sections=(), qk_norm=True, qk_norm_kind="rms", norm="rms",
    block="pre", mlp="swiglu", bias="none", sharing="shared", scan_unroll=1,
  )  # fmt: skip


def spread(of_images_BIF, number_BT, elsewhere: float):
  """What each image says, at its positions: [B, I, F] -> [B, T, F].

  Args:
    of_images_BIF: by the number of the image in its row.
    number_BT: that number; -1 where there is no image.
    elsewhere: what stands there.
  """
  at = jnp.maximum(number_BT, 0)[..., None]
  found = jnp.take_along_axis(of_images_BIF, at, axis=1)
  return jnp.where((number_BT >= 0)[..., None], found, elsewhere)


class DenoisingBlock(Block):
  """A block of the decoder whose modulation is its own map of the timestep.

  Its modulation is (silu of the timestep's vector for each image [B, I, D], the number
  of the image at each position [B, T]).
  """

  def _adaln(self, time_BID, number_BT):
    width, dtype = self.config.width, jnp.dtype(self.config.dtype)
    parts = Linear(
      6 * width, ("embed", "mlp"), dtype, bias=True, scale=0.0, name="modulation"
    )(time_BID)
    branches = jnp.split(parts, 2, axis=-1)  # of attention, of the MLP

    def of(branch, part, elsewhere=0.0):
      of_images = jnp.split(branches[branch], 3, axis=-1)[part]
      return spread(of_images, number_BT, elsewhere)

    def changes(branch):
      shift, scale = of(branch, 0), of(branch, 1)
      return lambda x: x * (1 + scale) + shift

    def gates(branch):
      gate = of(branch, 2, 1.0)
      return lambda x: x * gate

    return [changes(0), changes(1)], [gates(0), gates(1)]


class Denoiser(nn.Module):
  """The blocks, what leads to them, and the last norm.

  Attributes:
    config: of the decoder.
    about: of the blocks.
    lookahead: as of `Transformer`.
    images: largest number of images in a row.
  """

  config: ModelConfig
  about: DenoiserConfig
  lookahead: int
  images: int

  @nn.compact
  def __call__(self, h_BTD, inputs: Inputs, cache: Cache | None, time_BTW):
    """Runs them.

    Args:
      h_BTD: of the decoder.
      inputs: the same as the decoder's.
      cache: with keys and values of these blocks, or None.
      time_BTW: vectors of timesteps at positions of images; None: there are none.

    Returns:
      (u_BTW, (keys, values) each [N, B, T, G, K]).
    """
    d, dtype = self.about, jnp.dtype(self.config.dtype)

    def linear(features, axes, name, scale=1.0):
      return Linear(features, axes, dtype, bias=True, scale=scale, name=name)

    x = ACTIVATIONS["gelu"](linear(d.width, ("embed", "mlp"), "in")(h_BTD))
    x = linear(d.width, ("mlp", "embed"), "out")(x)
    number = time = None
    if time_BTW is not None:
      here = modality.written(inputs, self.config.image_mask)
      number = jnp.where(here, inputs.span_BT, -1)
      time = nn.silu(gathered(inputs, time_BTW, self.images, 1)[:, :, 0])
    blocks = Transformer(
      shape(self.config, d), self.lookahead, DenoisingBlock, d.last_eps,
      name="transformer",
    )  # fmt: skip
    if cache is not None:
      cache = Cache(*cache.denoiser, cache.length_B)
    modulation = None if time is None else (time, number)
    x, kv = blocks(x, inputs, cache, modulation)
    if time is None:
      return x, kv
    last = linear(2 * d.width, ("embed", "mlp"), "modulation", 0.0)(time)
    shift, scale = (spread(y, number, 0.0) for y in jnp.split(last, 2, axis=-1))
    return x * (1 + scale) + shift, kv
