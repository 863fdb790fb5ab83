"""Encoder, bottleneck and decoder as one module."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.codecs import artefact
from unijax.codecs.autoencoder import Decoder, Encoder
from unijax.codecs.bottlenecks import BOTTLENECKS, Bottled
from unijax.config_parts import CodecConfig


class Reconstruction(NamedTuple):
  """What training needs of one pass."""

  hidden_BHWC: jax.Array  # what the last convolution reads
  pixels_BHWC: jax.Array | None  # about in [-1, 1]; None: of a codec that draws none
  bottled: Bottled


class Autoencoder(nn.Module):
  """Pixels -> latents (or codes) -> pixels."""

  config: CodecConfig
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    bottleneck = BOTTLENECKS[self.config.bottleneck]
    features = bottleneck.encoder_features(self.config)
    self.encoder = Encoder(self.config, features, self.dtype)
    self.bottleneck = bottleneck(self.config)
    self.decoder = Decoder(self.config, self.dtype)

  def __call__(self, pixels_BHWC, keys_B) -> Reconstruction:
    """float in [-1, 1] [B, H, W, 3], and a key a picture for what is drawn."""
    bottled = self.bottleneck(self.encoder(pixels_BHWC).astype(jnp.float32), keys_B)
    hidden = self.decoder.hidden(bottled.latents_BHWC)
    pixels = self.decoder.leave(hidden) if self.config.draws else None
    return Reconstruction(hidden, pixels, bottled)

  def leave(self, hidden_BHWC):
    """The last convolution alone."""
    return self.decoder.leave(hidden_BHWC)

  def encode(self, pixels_BHWC):
    """Latents without noise, float32 [B, H/s, W/s, channels]."""
    return self.bottleneck.clean(self.encoder(pixels_BHWC).astype(jnp.float32))

  def codes(self, pixels_BHWC):
    """int32 [B, H/s, W/s, Q]."""
    return self.bottleneck.codes(self.encoder(pixels_BHWC).astype(jnp.float32))

  def entries(self, codes_BHWQ):
    """Codes -> latents."""
    return self.bottleneck.entries(codes_BHWQ)

  def decode(self, latents_BHWC):
    """Latents -> pixels, about in [-1, 1]."""
    return self.decoder(latents_BHWC)


@dataclasses.dataclass(frozen=True)
class Convolutional:
  """What `frozen.Weighted` must know of an autoencoder: sizes, and what it computes."""

  config: CodecConfig

  @classmethod
  def read(cls, values: Mapping[str, Any]) -> "Convolutional":
    """Builds it from the plain values of codec.json."""
    return cls(artefact.section(CodecConfig, values))

  def plain(self) -> dict[str, Any]:
    """The inverse of `read`."""
    return artefact.plain(self.config)

  @property
  def stride(self) -> int:
    """Pixels a side of a latent."""
    return stride(self.config)

  @property
  def channels(self) -> int:
    """Numbers a latent."""
    return self.config.channels

  @property
  def draws(self) -> bool:
    """Whether there is a decoder."""
    return self.config.draws

  @property
  def books(self) -> tuple[int, ...]:
    """Entries of each codebook."""
    return tuple(BOTTLENECKS[self.config.bottleneck].codebooks(self.config))

  def run(self, method: str, params, x):
    """A method of `Autoencoder` with weights."""
    return Autoencoder(self.config).apply({"params": params}, x, method=method)


def stride(config: CodecConfig) -> int:
  """Pixels a side of a latent."""
  return 2 ** (len(config.multipliers) - 1)
