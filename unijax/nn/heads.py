"""Heads that say, from one hidden state, what a continuous patch may be.

A head has `__call__(h, x, time)`, whose result is what the way of writing asks for; a
head that reads no noised patch ignores x and time.
"""

import flax.linen as nn
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.layers import Linear
from unijax.nn.timestep import TimeEmbedding


class DenoisingHead(nn.Module):
  """Denoises one patch given a hidden state: residual layers under AdaLN.

  The denoiser of MAR (Li et al. 2024): the hidden state and the timestep, added, shift,
  scale and gate each layer. `h` is [..., D], `x` [..., C], `time` [...].
  """

  config: ModelConfig
  channels: int

  @nn.compact
  def __call__(self, h, x, time):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    width = c.head_width

    def linear(name, features, axes=("embed", "mlp"), scale=1.0):
      return Linear(features, axes, dtype, bias=True, scale=scale, name=name)

    def norm(name, y):
      norm = nn.LayerNorm(dtype=dtype, use_bias=False, use_scale=False, name=name)
      return norm(y)

    given = Linear(width, ("embed", None), dtype, bias=True, name="hidden")(h)
    given = nn.silu(given + TimeEmbedding(width, dtype, name="time")(time))
    y = linear("enter", width, ("patch", "embed"))(x)
    for i in range(c.head_depth):
      shift, scale, gate = jnp.split(
        linear(f"modulation{i}", 3 * width, scale=0.0)(given), 3, axis=-1
      )
      z = norm(f"norm{i}", y) * (1 + scale) + shift
      z = nn.silu(linear(f"in{i}", width)(z))
      z = linear(f"out{i}", width, ("mlp", "embed"))(z)
      y = y + gate * z
    shift, scale = jnp.split(
      linear("modulation", 2 * width, scale=0.0)(given), 2, axis=-1
    )
    y = norm("norm", y) * (1 + scale) + shift
    return linear("leave", self.channels, ("embed", "patch"))(y).astype(jnp.float32)


class MixtureHead(nn.Module):
  """A mixture of Gaussians with diagonal covariances (GIVT, Tschannen et al. 2024).

  Returns float32 (log weights [..., k], means [..., k, C], log scales [..., k, C]).
  """

  config: ModelConfig
  channels: int

  @nn.compact
  def __call__(self, h, x=None, time=None):
    del x, time
    k, C = self.config.mixtures, self.channels
    dtype = jnp.dtype(self.config.dtype)
    out = Linear(k * (1 + 2 * C), ("embed", "patch"), dtype, bias=True, name="out")(h)
    out = out.astype(jnp.float32)
    weights, means, scales = jnp.split(out, [k, k + k * C], axis=-1)
    shape = (*out.shape[:-1], k, C)
    log_scales = MAX_LOG_SCALE * jnp.tanh(scales.reshape(shape) / MAX_LOG_SCALE)
    return nn.log_softmax(weights), means.reshape(shape), log_scales


MAX_LOG_SCALE = 7.0  # a narrower Gaussian would overflow its density in float32


class RegressionHead(nn.Module):
  """The next patch itself: `head_depth` GELU layers, then a linear one: [..., C]."""

  config: ModelConfig
  channels: int

  @nn.compact
  def __call__(self, h, x=None, time=None):
    del x, time
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    for i in range(c.head_depth):
      axes = ("embed", "mlp") if i % 2 == 0 else ("mlp", "embed")
      h = nn.gelu(Linear(c.head_width, axes, dtype, bias=True, name=f"in{i}")(h))
    leave = Linear(self.channels, (None, "patch"), dtype, bias=True, name="leave")
    return leave(h).astype(jnp.float32)


HEADS = {
  "token_diffusion": DenoisingHead,
  "gmm": MixtureHead,
  "regression": RegressionHead,
  "masked_diffusion": DenoisingHead,
}
