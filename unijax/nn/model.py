"""The model on one page.

A row goes in as tokens and noised patches; one decoder mixes them under one
interval mask; a text head reads next-token logits and an image head the denoising
prediction, both from the same hidden states:

  x = where(patch, patch_codec.encode(noised patch, t), embedding[token])
  h = transformer(x)          positions see [start, end] of their row, plus the cache
  logits = text_head(h)       prediction = patch_codec.decode(h, t)

or patch_codec.decode(denoiser(h, t), t), with blocks that only denoise (`nn.denoiser`).

Training, prefill, text decoding and drawing are four calls of this module; they
differ only in which positions they pass and whether they pass a cache. Where images
are codes these are tokens like any other, or enter and leave by a table and a head of
their own (`nn.codes`); where patches are written one by one they are
read clean, and a small head of its own (`nn.heads`) says what the next may be. Context
images may be read through an encoder of pictures instead, or besides (`nn.reading`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import READS, WRITES, Config, ModelConfig
from unijax.config_parts import DenoiserConfig
from unijax.nn import modality, reading
from unijax.nn.bridge import Bridge, make_bridge
from unijax.nn.codes import CODE_ADAPTERS
from unijax.nn.denoiser import Denoiser
from unijax.nn.heads import HEADS
from unijax.nn.layers import Embedding, Linear, param
from unijax.nn.logical import constrain
from unijax.nn.patches import PATCH_CODECS
from unijax.nn.timestep import TimeEmbedding
from unijax.nn.transformer import Transformer
from unijax.nn.vision import corner, fixed
from unijax.types import FEATURE_BEGIN, Array, Cache, Inputs


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What the model must know of its data."""

  vocab: int
  channels: int  # numbers in a patch; 0 where images are codes
  grid: int  # patches a side
  patch_size: int  # latents a side of a patch
  images: int  # largest number of images in one call
  features: int = 0  # vectors of an encoded picture; 0 without an encoder
  codes: int = 0  # last ids, of image codes; 0 where images are patches
  frame: int = 0  # most positions around an image that it sees both ways

  @property
  def first_code(self) -> int:
    """Id of image code 0, where there are codes."""
    return self.vocab - self.codes


class Context(NamedTuple):
  """What `Model.prediction` must know of the patches besides the hidden states."""

  time_BTD: Array  # vectors of timesteps, as wide as the decoder
  skips: Any  # of the patch codec
  time_BTW: Array  # the same vectors as a denoiser has them, where there is one
  denoised_BTW: Array | None = None  # what the denoiser made of the hidden states


class Model(nn.Module):
  """The unified decoder. All methods return float32 heads and new keys and values."""

  config: ModelConfig
  sizes: Sizes
  bridge: Bridge | None = None  # draws from hidden states, where images are so written
  vision: nn.Module | None = None  # encodes context images, where they are so read
  connector: nn.Module | None = None  # makes positions of what it says
  apart: bool = False  # see `Transformer`
  denoise: DenoiserConfig | None = None  # blocks of their own that only denoise

  def setup(self):
    c, s = self.config, self.sizes
    dtype = jnp.dtype(c.dtype)
    adapter = CODE_ADAPTERS[c.code_adapter]
    self.codes = adapter(c, s.codes) if adapter else None
    rows = s.first_code if adapter else s.vocab  # ids whose vectors are of one table
    self.embedding = Embedding(rows, c.width, dtype)
    write = WRITES[c.write]
    self.timed, denoise = write.timed, self.denoise
    if s.channels:
      self.patch_codec = PATCH_CODECS[c.patch_codec](
        c, s.channels, s.grid, s.patch_size, s.images
      )
    if self.timed:
      width = denoise.width if denoise else c.width
      self.time_embedding = TimeEmbedding(
        width, dtype, c.time_waves, c.time_scale, c.time_features, c.time_of
      )
    if denoise:
      self.time_projection = Linear(c.width, ("embed", None), dtype, bias=True)
    head = HEADS.get(c.write)
    self.image_head = head(c, s.channels) if head else None
    # How far past itself a position may look: to the end of its image or block.
    timed = c.time_injection in ("token", "boi")
    span = max(s.grid**2 + timed, s.features) + s.frame
    if write.blocks:
      span = max(span, c.text_block)
    lookahead = span - 1 if c.image_mask != "causal" else 0
    self.transformer = Transformer(c, lookahead, apart=self.apart)
    if denoise:
      self.denoiser = Denoiser(c, denoise, lookahead, s.images)
    self.side = c.patch_grid or s.grid  # of the table of places
    if c.patch_position != "none":
      init = fixed if c.patch_position == "fixed" else nn.initializers.normal(0.02)
      self.patch_position = param(
        self, "patch_position", init, (self.side**2, c.width), (None, "embed")
      )
    if c.feature_position == "fixed":
      side = self.vision.side
      self.feature_position = param(
        self, "feature_position", fixed, (side**2, c.width), (None, "embed")
      )
    if c.feature_begin:
      init = nn.initializers.normal(0.02)
      self.feature_begin = param(self, "feature_begin", init, (c.width,), ("embed",))
    if write.hidden:
      init = nn.initializers.normal(0.02)
      self.hidden_patch = param(self, "hidden_patch", init, (c.width,), ("embed",))
    if c.time_injection == "adaln":
      self.modulation = Linear(
        6 * c.width, ("embed", "mlp"), dtype, bias=True, scale=0.0
      )
    self.modulates = c.time_injection == "adaln" and not denoise
    if self.modulates:
      self.image_modulation = Linear(
        2 * c.width, ("embed", "mlp"), dtype, bias=True, scale=0.0
      )
    self.fused, self.latents = READS[c.read].fused, READS[c.read].latents
    if self.fused:
      self.fusion = reading.Fusion(c.width, dtype)
    if not c.tie_embeddings:
      self.text_head = Linear(rows, ("embed", "vocab"), dtype, c.head_bias)

  def __call__(self, inputs: Inputs):
    """Both heads over whole rows: (logits_BTV, what the image head says, or None)."""
    h_BTD, _, context = self.hidden(inputs)
    logits_BTV = constrain(self.logits(h_BTD), "batch", "sequence", "act_vocab")
    if self.timed:
      return logits_BTV, self.prediction(h_BTD, inputs, context)
    if self.bridge is not None and self.is_initializing():
      self.bridge.touch()
    if self.image_head is None:
      return logits_BTV, None
    return logits_BTV, self.image_head(h_BTD, inputs.patches_BTC, inputs.time_BT)

  def hidden(self, inputs: Inputs, cache: Cache | None = None):
    """Embeds and mixes.

    Returns:
      (h_BTD, (keys, values) each [N, B, T, G, K], context for `prediction`); keys and
      values in the order of `Cache.kv`, with those of a denoiser where there is one.
    """
    c, x_BTD = self.config, self._embed(inputs.tokens_BT)
    if self.bridge is not None:  # the last ids are its slots
      slot_BT = inputs.tokens_BT - (self.sizes.vocab - self.bridge.config.slots)
      x_BTD = self.bridge.enter(x_BTD, slot_BT)
    context, modulation, feature = None, None, None
    if inputs.feature_BT is not None:
      place = self.feature_position if c.feature_position == "fixed" else None
      feature = reading.features(self.vision, self.connector, inputs, place)
    if inputs.patches_BTC is not None:
      x_BTD, context, modulation = self._enter_patches(x_BTD, inputs, feature)
    if feature is not None and not self.fused:
      x_BTD = jnp.where((inputs.feature_BT >= 0)[..., None], feature, x_BTD)
    if self.config.feature_begin and feature is not None:
      begins = (inputs.feature_BT == FEATURE_BEGIN)[..., None]
      x_BTD = jnp.where(begins, self.feature_begin.astype(x_BTD.dtype), x_BTD)
    h_BTD, kv = self.transformer(x_BTD, inputs, cache, modulation)
    if self.denoise is not None:
      time_BTW = context.time_BTW if context else None
      denoised, more = self.denoiser(h_BTD, inputs, cache, time_BTW)
      kv = (*kv, more)
      context = context and context._replace(denoised_BTW=denoised)
    return h_BTD, kv, context

  def logits(self, h_BTD: Array) -> jax.Array:
    """Next-token logits, float32 [..., V]."""
    if self.codes is None:
      return self._table_logits(h_BTD)
    both = [self._table_logits(h_BTD), self.codes.logits(h_BTD)]
    return jnp.concatenate(both, axis=-1)

  def code_logits(self, h_BTD: Array, pick: Callable) -> jax.Array:
    """`logits` of codes alone, float32 [..., codes]; `pick` is `CodeIds.pick`."""
    if self.codes is None:
      return self._table_logits(h_BTD, pick)
    return self.codes.logits(h_BTD)

  def _table_logits(self, h_BTD: Array, *pick) -> jax.Array:
    """Of the rows of the token table, or of those that are picked."""
    if self.config.tie_embeddings:
      return self.embedding.attend(h_BTD, *pick)
    return self.text_head(h_BTD, *pick).astype(jnp.float32)

  def _embed(self, tokens_BT):
    if self.codes is None:
      return self.embedding(tokens_BT)
    first = self.sizes.first_code
    text_BTD = self.embedding(jnp.minimum(tokens_BT, first - 1))
    is_code = (tokens_BT >= first)[..., None]
    return jnp.where(is_code, self.codes.embed(tokens_BT - first), text_BTD)

  def prediction(self, h_BTD: Array, inputs: Inputs, context) -> jax.Array:
    """The image head's output, of kind `diffusion.predict`: float32 [B, T, C]."""
    if context.denoised_BTW is not None:
      h_BTD = context.denoised_BTW
    if self.modulates:
      time_BTD = context.time_BTD
      shift, scale = jnp.split(self.image_modulation(nn.silu(time_BTD)), 2, axis=-1)
      h_BTD = h_BTD * (1 + scale) + shift
    return self.patch_codec.decode(h_BTD, inputs, context.time_BTD, context.skips)

  def _enter_patches(self, x_BTD, inputs: Inputs, feature):
    c = self.config
    is_patch, written = inputs.patch_BT >= 0, modality.written(inputs, c.image_mask)
    time_BTW = time_BTD = self.time_embedding(inputs.time_BT) if self.timed else None
    if self.denoise is not None:
      time_BTD = self.time_projection(time_BTW)
    if self.sizes.channels:
      patch_BTD, skips = self.patch_codec.encode(inputs, time_BTD)
    else:
      patch_BTD, skips = x_BTD, None  # a code is a token
    if self.latents:
      feature = reading.of_latents(self.vision, inputs, self.sizes.images)
      patch_BTD = self.fusion(feature, patch_BTD)
    elif self.fused:
      if feature is None:
        feature = jnp.zeros((*x_BTD.shape[:2], self.vision.config.width))
      patch_BTD = self.fusion(patch_BTD, feature)
    if WRITES[c.write].hidden and inputs.time_BT is not None:
      hidden = (inputs.time_BT >= 1)[..., None]  # all that is left of it is noise
      vector = self.hidden_patch.astype(patch_BTD.dtype)
      patch_BTD = jnp.where(hidden, vector, patch_BTD)
    if c.patch_position != "none":
      place = corner(jnp.maximum(inputs.patch_BT, 0), self.sizes.grid, self.side)
      patch_BTD += jnp.take(self.patch_position, place, axis=0).astype(patch_BTD.dtype)
    if not self.timed:
      return jnp.where(is_patch[..., None], patch_BTD, x_BTD), None, None
    modulation = None
    if c.time_injection == "add":
      patch_BTD += time_BTD
    elif c.time_injection == "token":  # the one position of a span that is no patch
      is_time = (written & ~is_patch)[..., None]
      token_BTD = 0 if c.time_token == "alone" else x_BTD
      x_BTD = jnp.where(is_time, token_BTD + time_BTD, x_BTD)
    elif c.time_injection == "boi":  # likewise, in its place
      x_BTD = jnp.where((written & ~is_patch)[..., None], time_BTD, x_BTD)
    else:
      shared = self.modulation(nn.silu(time_BTD))
      shared = shared.reshape(*shared.shape[:2], 6, c.width)
      modulation = (shared, written)
    x_BTD = jnp.where(is_patch[..., None], patch_BTD, x_BTD)
    return x_BTD, Context(time_BTD, skips, time_BTW), modulation


def make_model(
  config: Config, vocab: int, images: int | None = None, apart: bool = False
) -> Model:
  """Builds the module for a config.

  Args:
    config: of the run.
    vocab: ids that the token table holds.
    images: largest number of images in one row; None is that of packed rows.
    apart: whether each block has parameters of its own (`infer.narrow.apart`).
  """
  sizes = Sizes(
    vocab, config.patch_channels, config.grid, config.data.patch_size,
    images or config.data.images_per_row, config.features, config.codebook,
    config.frame,
  )  # fmt: skip
  bridge = make_bridge(config) if config.slots else None
  denoise = config.denoiser if config.denoiser.depth else None
  reader = reading.make_reader(config)
  return Model(config.model, sizes, bridge, *reader, apart=apart, denoise=denoise)
