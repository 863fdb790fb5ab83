"""The timestep as the networks read it: waves, and a vector made of them."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unijax.nn.layers import Linear
from unijax.nn.logical import constrain

TIME_FEATURES = 128  # sines and cosines of the timestep


def time_features(time: jax.Array, count: int = TIME_FEATURES, scale: float = 1.0):
  """Sines, then cosines, of timesteps in [0, 1]: [...] -> float32 [..., count].

  Frequencies are geometric from 1 to 1000 radians a unit of time, so that both the
  whole trajectory and a thousandth of it are resolved.
  """
  frequencies = jnp.exp(jnp.linspace(0.0, jnp.log(1000.0), count // 2))
  angle = scale * time[..., None].astype(jnp.float32) * frequencies
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def sinusoid(time: jax.Array, count: int = TIME_FEATURES, scale: float = 1.0):
  """Cosines, then sines, of any times: [...] -> float32 [..., count].

  Frequencies are geometric from 1 down to 1 / 10,000, which is left out (Ho et al.
  2020, after Vaswani et al. 2017). Their logarithms are float32, as everywhere, and the
  exponential is rounded once: at thousands of units its last bit is seen in the sines.
  """
  half = count // 2
  exponent = np.float32(-math.log(10_000.0)) * np.arange(half, dtype=np.float32)
  frequencies = np.exp(np.float64(exponent / np.float32(half))).astype(np.float32)
  angle = scale * time[..., None].astype(jnp.float32) * frequencies
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


WAVES = {"fast": time_features, "sinusoid": sinusoid}  # values of model.time_waves


class TimeEmbedding(nn.Module):
  """Timestep in [0, 1] -> vector: two linear layers over sine features.

  Attributes:
    waves, scale, features, of: as model.time_waves and so on.
  """

  width: int
  dtype: jnp.dtype
  waves: str = "fast"
  scale: float = 1.0
  features: int = TIME_FEATURES
  of: str = "noise"

  @nn.compact
  def __call__(self, time):
    rows = ("batch", "sequence")[: time.ndim]
    time = 1.0 - time if self.of == "data" else time
    x = WAVES[self.waves](time, self.features, self.scale)
    x = constrain(x, *rows, None)
    x = Linear(self.width, ("time", "embed"), self.dtype, bias=True, name="in")(x)
    # Left alone, XLA divides the width, and every device sums the vectors of all rows.
    x = constrain(nn.silu(x), *rows, "act_embed")
    x = Linear(self.width, ("embed", None), self.dtype, bias=True, name="out")(x)
    return constrain(x, *rows, "act_embed")
