"""From hidden states of the decoder to a diffusion transformer of its own.

Slots are tokens that stand where an image is to be drawn: learned queries (DreamLLM,
Dong et al. 2024; MetaQuery, Pan et al. 2025) or signal tokens that the model writes
(NExT-GPT, Wu et al. 2024). What enters at them is a table of the bridge's own, so that
the rest of the model can be frozen around it. A connector turns what the model thinks
there into the condition of `nn.dit`, which may be frozen or trained along.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import BridgeConfig, Config, DitConfig, ModelConfig
from unijax.nn.both_ways import BothWays
from unijax.nn.dit import DiT
from unijax.nn.dit_blocks import Condition, Fitted
from unijax.nn.layers import Linear, param


class LinearConnector(nn.Module):
  """One linear map of each slot."""

  config: BridgeConfig
  model: ModelConfig

  @nn.compact
  def __call__(self, h_MND):
    dtype = jnp.dtype(self.model.dtype)
    out = Linear(self.model.width, ("embed", None), dtype, bias=True, name="out")
    return out(h_MND)


class MLPConnector(nn.Module):
  """Two linear maps of each slot, GELU between."""

  config: BridgeConfig
  model: ModelConfig

  @nn.compact
  def __call__(self, h_MND):
    width, dtype = self.model.width, jnp.dtype(self.model.dtype)
    y = Linear(width, ("embed", "mlp"), dtype, bias=True, name="in")(h_MND)
    return Linear(width, ("mlp", "embed"), dtype, bias=True, name="out")(nn.gelu(y))


class EncoderConnector(nn.Module):
  """Blocks like the decoder's in which all slots see each other, then a linear map.

  MetaQuery section 3.2: an encoder of the model's width aligns its states.
  """

  config: BridgeConfig
  model: ModelConfig

  @nn.compact
  def __call__(self, h_MND):
    M, N, D = h_MND.shape
    depth = self.config.connector_depth
    c = dataclasses.replace(self.model, depth=depth, scan_unroll=1, sharing="shared")
    y = BothWays(c, name="encoder")(h_MND, jnp.full(M, N, jnp.int32))
    dtype = jnp.dtype(self.model.dtype)
    return Linear(D, ("embed", None), dtype, bias=True, name="out")(y)


CONNECTORS = {
  "linear": LinearConnector,
  "mlp": MLPConnector,
  "encoder": EncoderConnector,
}


class Bridge(nn.Module):
  """Hidden states of N slots, for each of M pictures, and the decoder they steer."""

  config: BridgeConfig
  dit: DitConfig
  model: ModelConfig
  channels: int
  grid: int
  guidance_told: float = 1.0  # as DiT has it

  def setup(self):
    shape = (self.config.slots, self.model.width)
    normal = nn.initializers.normal(0.02)  # as the table of tokens
    self.queries = param(self, "queries", normal, shape, (None, "embed"))
    self.connector = CONNECTORS[self.config.connector](self.config, self.model)
    self.fit = Fitted(self.dit, jnp.dtype(self.model.dtype))
    self.decoder = DiT(
      self.dit, self.model, self.channels, self.grid, self.guidance_told
    )

  def enter(self, x_BTD, slot_BT) -> jax.Array:
    """What the model reads: vectors of tokens, and at slots (number >= 0) its own."""
    queries = jnp.take(self.queries, jnp.maximum(slot_BT, 0), axis=0)
    return jnp.where((slot_BT >= 0)[..., None], queries.astype(x_BTD.dtype), x_BTD)

  def condition(self, h_MND) -> Condition:
    """What the slots say; the same at every timestep."""
    vectors_MNE = self.connector(h_MND)
    length_M = jnp.full(h_MND.shape[0], h_MND.shape[1], jnp.int32)
    return self.fit(Condition(vectors_MNE, length_M))

  def predict(self, x_MPC, time_M, condition: Condition) -> jax.Array:
    """The prediction for noised patches [M, P, C], of kind `diffusion.predict`."""
    return self.decoder(x_MPC, time_M, condition)

  def touch(self) -> None:
    """Runs once on nothing, so that all parameters come into being."""
    condition = self.condition(jnp.zeros((1, self.config.slots, self.model.width)))
    self.predict(jnp.zeros((1, self.grid**2, self.channels)), jnp.zeros(1), condition)


def make_bridge(config: Config) -> Bridge:
  """Builds the bridge of a config."""
  return Bridge(
    config.bridge, config.dit, config.model, config.patch_channels, config.grid,
    config.sample.guidance_told,
  )  # fmt: skip
