"""The decoder's own stack of blocks as an encoder: text read in both directions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.transformer import Transformer
from unijax.types import Inputs


class BothWays(nn.Module):
  """Vectors in, vectors out; every real one sees every other, and none sees padding."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BSD, length_B) -> jax.Array:
    """[B, S, D], of which the first length_B[b] are real -> [B, S, D]."""
    B, S = x_BSD.shape[:2]
    index = jnp.broadcast_to(jnp.arange(S, dtype=jnp.int32), (B, S))
    outside = jnp.full_like(index, -1)
    inputs = Inputs(
      tokens_BT=outside,
      patches_BTC=None,
      time_BT=None,
      span_BT=outside,
      patch_BT=outside,
      position_BTA=jnp.repeat(index[..., None], 3, axis=-1),
      index_BT=index,
      start_BT=jnp.zeros_like(index),
      end_BT=jnp.maximum(index, length_B[:, None] - 1),
    )
    transformer = Transformer(self.config, S - 1, name="transformer")
    return transformer(x_BSD, inputs, None, None)[0]
