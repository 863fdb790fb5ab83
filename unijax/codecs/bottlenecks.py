"""What happens between encoder and decoder: the table of bottlenecks.

A bottleneck turns the encoder's vectors z into the latents that the decoder reads. A
continuous one draws them; a discrete one replaces z by the entry of a code. Gradients
reach the encoder through a discrete one as if it were not there (straight-through:
latents = z + stop_gradient(entry - z)). All losses are means over a picture, one number
a picture, so that they are summed and divided like every other loss.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.codecs.vector_quantizer import VectorQuantizer, straight_through
from unijax.config_parts import CodecConfig

BITS_AT_ONCE = 9  # bits whose joint distribution is held, for the entropy of all codes
FSQ_MARGIN = 1e-3  # keeps tanh off the outermost rounding boundary


class Bottled(NamedTuple):
  """What a bottleneck makes of B vectors fields.

  Attributes:
    latents_BHWC: what the decoder reads.
    codes_BHWQ: int32, Q codes a place; None where latents are continuous.
    losses: name -> float32 [B], already weighted.
    statistics: name -> (sums, counts) over the batch, for `update`.
  """

  latents_BHWC: jax.Array
  codes_BHWQ: jax.Array | None
  losses: Mapping[str, jax.Array]
  statistics: Mapping[str, tuple[jax.Array, jax.Array]]


def over_picture(x_BHWC) -> jax.Array:
  """Mean of each picture: [B, ...] -> [B]."""
  return x_BHWC.reshape(x_BHWC.shape[0], -1).mean(axis=1)


class Bottleneck(nn.Module):
  """Base of all: sizes that follow from the config, and nothing to update."""

  config: CodecConfig

  @staticmethod
  def encoder_features(config: CodecConfig) -> int:
    """Numbers a place that the encoder must give."""
    return config.channels

  @staticmethod
  def codebooks(config: CodecConfig) -> tuple[int, ...]:
    """Number of codes of each of the Q codes of a place; () for a continuous one."""
    return ()

  def clean(self, z_BHWC) -> jax.Array:
    """Latents without noise, for encoding after training."""
    raise NotImplementedError

  @staticmethod
  def update(config: CodecConfig, params, statistics, key):
    """Moves what no gradient moves, from sums over the whole batch."""
    return params


class Gaussian(Bottleneck):
  """A diagonal Gaussian with a weak pull to N(0, 1) (Kingma & Welling 2014, eq. 10).

  The pull is a sum over the latents of a picture, divided by its pixels and colours, as
  the error is: `kl_weight` compares with that of losses summed over a picture.
  """

  config: CodecConfig

  @staticmethod
  def encoder_features(config: CodecConfig):
    return 2 * config.channels

  def moments(self, z_BHWC):
    """Returns (mean, log variance) of the latents, in float32."""
    mean, log_variance = jnp.split(z_BHWC.astype(jnp.float32), 2, axis=-1)
    return mean, jnp.clip(log_variance, -30.0, 20.0)

  def __call__(self, z_BHWC, keys_B):
    mean, log_variance = self.moments(z_BHWC)
    draw = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))
    latents = mean + jnp.exp(0.5 * log_variance) * draw(keys_B)
    kl = 0.5 * (mean**2 + jnp.exp(log_variance) - 1.0 - log_variance)
    stride = 2 ** (len(self.config.multipliers) - 1)
    a_pixel = over_picture(kl) * mean.shape[-1] / (3 * stride**2)
    return Bottled(latents, None, {"kl": self.config.kl_weight * a_pixel}, {})

  def clean(self, z_BHWC):
    return self.moments(z_BHWC)[0]


class Discrete(Bottleneck):
  """Base of those with codes: `codes` and `entries` between latents and codes."""

  def codes(self, z_BHWC) -> jax.Array:
    """Vectors -> int32 [B, H, W, Q]."""
    raise NotImplementedError

  def entries(self, codes_BHWQ) -> jax.Array:
    """Codes -> the latents they stand for."""
    raise NotImplementedError

  def clean(self, z_BHWC):
    return self.entries(self.codes(z_BHWC))


class Vectors(Discrete):
  """A codebook: the nearest entry (van den Oord et al. 2017, arXiv 1711.00937)."""

  def setup(self):
    self.quantizer = VectorQuantizer(self.config, len(self.codebooks(self.config)))

  @staticmethod
  def codebooks(config: CodecConfig):
    return (config.codebook,)

  def __call__(self, z_BHWC, keys_B):
    latents, codes, commitment, statistics = self.quantizer(z_BHWC)
    return Bottled(latents, codes, {"commitment": commitment}, statistics)

  def codes(self, z_BHWC):
    return self.quantizer.codes(z_BHWC)

  def entries(self, codes_BHWQ):
    return self.quantizer.entries(codes_BHWQ)

  @staticmethod
  def update(config: CodecConfig, params, statistics, key):
    quantizer = VectorQuantizer.update(config, params["quantizer"], statistics, key)
    return {**params, "quantizer": quantizer}


class ResidualVectors(Vectors):
  """Codebooks one after the other, each for what the ones before left over.

  (Zeghidour et al. 2021, arXiv 2107.03312, algorithm 1.)
  """

  @staticmethod
  def codebooks(config: CodecConfig):
    return (config.codebook,) * config.quantizers


def fsq_bound(z, levels: tuple[int, ...]):
  """Squashes each channel onto its levels before rounding (arXiv 2309.15505, eq. 1-2).

  Rounded, channel i takes exactly levels[i] whole numbers, from -(L // 2) on.
  """
  L = jnp.asarray(levels, jnp.float32)
  half = (L - 1) * (1 + FSQ_MARGIN) / 2
  offset = jnp.where(L % 2 == 0, 0.5, 0.0)
  return jnp.tanh(z + jnp.arctanh(offset / half)) * half - offset


class Scalars(Discrete):
  """Finite scalar quantization: each channel is rounded to one of a few levels.

  (Mentzer et al. 2024, arXiv 2309.15505.) The code is the number whose digits are the
  levels, the first channel the lowest digit.
  """

  @staticmethod
  def codebooks(config: CodecConfig):
    return (math.prod(config.levels),)

  def _digits(self):
    L = jnp.asarray(self.config.levels, jnp.int32)
    place = jnp.cumprod(jnp.concatenate([jnp.ones(1, jnp.int32), L[:-1]]))
    return L, place

  def __call__(self, z_BHWC, keys_B):
    bounded = fsq_bound(z_BHWC.astype(jnp.float32), self.config.levels)
    half = self._digits()[0] // 2
    latents = straight_through(bounded, jnp.round(bounded)) / half
    return Bottled(latents, self.codes(z_BHWC), {}, {})

  def codes(self, z_BHWC):
    L, place = self._digits()
    bounded = fsq_bound(z_BHWC.astype(jnp.float32), self.config.levels)
    digit = jnp.round(bounded).astype(jnp.int32) + L // 2
    return (digit * place).sum(axis=-1, keepdims=True)

  def entries(self, codes_BHWQ):
    L, place = self._digits()
    digit = codes_BHWQ // place % L
    return (digit - L // 2) / (L // 2)


class Signs(Discrete):
  """Lookup-free quantization: each channel is a bit, its sign.

  (Yu et al. 2024, arXiv 2310.05737, section 3.1: eq. 3 for the entropy loss.) A
  picture's own codes should be sure, all codes together should be used alike:
  loss = E[H(p(code | z))] - H(E[p(code | z)]), with p(bit = 1) = sigmoid(4 z / tau),
  which is the softmax of -|z - c|^2 / tau over both signs. Of more than BITS_AT_ONCE
  bits the second entropy is the sum over groups of bits, an upper bound. Bit of channel
  0 is the highest.
  """

  config: CodecConfig

  @staticmethod
  def codebooks(config: CodecConfig):
    return (2**config.channels,)

  def _values(self):
    C = self.config.channels
    return 2 ** jnp.arange(C - 1, -1, -1, dtype=jnp.int32)

  def __call__(self, z_BHWC, keys_B):
    c, z = self.config, z_BHWC.astype(jnp.float32)
    sign = jnp.where(z > 0, 1.0, -1.0)
    commitment = c.commitment * over_picture((z - jax.lax.stop_gradient(sign)) ** 2)
    logit = 4.0 * z / c.entropy_temperature
    sure = over_picture(_bit_entropy(logit)) * c.channels  # bits are independent
    spread = self._entropy_of_all(logit)
    losses = {
      "commitment": commitment,
      "entropy": c.entropy_weight * (sure - spread),
    }
    return Bottled(straight_through(z, sign), self.codes(z), losses, {})

  def _entropy_of_all(self, logit_BHWC):
    """H of the mean distribution of codes over all places of all pictures."""
    total = 0.0
    for first in range(0, self.config.channels, BITS_AT_ONCE):
      logit = logit_BHWC[..., first : first + BITS_AT_ONCE]
      n = logit.shape[-1]
      bits = (jnp.arange(2**n)[:, None] >> jnp.arange(n)) & 1
      log_p = jax.nn.log_sigmoid(logit) @ bits.T.astype(jnp.float32)
      log_p += jax.nn.log_sigmoid(-logit) @ (1.0 - bits.T)
      mean = jnp.exp(log_p).reshape(-1, 2**n).mean(axis=0)
      total += -(mean * jnp.log(mean + 1e-9)).sum()
    return total

  def codes(self, z_BHWC):
    return ((z_BHWC > 0) * self._values()).sum(axis=-1, keepdims=True)

  def entries(self, codes_BHWQ):
    return jnp.where((codes_BHWQ & self._values()) > 0, 1.0, -1.0)


def _bit_entropy(logit):
  """Entropy in nats of a bit with this logit."""
  p = jax.nn.sigmoid(logit)
  return -(p * jax.nn.log_sigmoid(logit) + (1 - p) * jax.nn.log_sigmoid(-logit))


BOTTLENECKS: dict[str, type[Bottleneck]] = {
  "kl": Gaussian,
  "vq": Vectors,
  "fsq": Scalars,
  "lfq": Signs,
  "rvq": ResidualVectors,
}
