"""From the features of an encoder to the positions of a decoder's row.

A connector maps [B, P, E] to [B, L, D]. `CONNECTORS` names them. All take the decoder's
width and the dtype first; what else they need has a default or comes after.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from unijax.config_parts import TextConfig, TowerConfig
from unijax.nn.encoder import (
  ACTIVATIONS,
  EncoderAttention,
  FeedForward,
  Norm,
  everything,
)
from unijax.nn.layers import LayerNorm, Linear, param
from unijax.nn.qformer import Queries


class LinearConnector(nn.Module):
  """One linear map of each feature (Liu et al. 2023)."""

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BPE):
    return Linear(self.width, ("patch", "embed"), self.dtype, True, name="out")(x_BPE)


def two_maps(x, hidden: int, width: int, dtype, activation: str = "gelu"):
  """Two linear maps of the module that calls, "in" and "out", an activation between."""
  into = Linear(hidden, ("embed", "mlp"), dtype, True, name="in")
  out = Linear(width, ("mlp", "embed"), dtype, True, name="out")
  return out(ACTIVATIONS[activation](into(x)))


class MLPConnector(nn.Module):
  """Two linear maps and GELU between (Liu et al. 2024), or one of `ACTIVATIONS`."""

  width: int
  dtype: jnp.dtype
  activation: str = "gelu"

  @nn.compact
  def __call__(self, x_BPE):
    return two_maps(x_BPE, self.width, self.width, self.dtype, self.activation)


class ShuffleConnector(nn.Module):
  """Neighbouring features become the channels of one, then a norm and an MLP.

  Space to depth (Shi et al. 2016, reversed): `factor`^2 times fewer positions. Features
  are in raster order of a square grid that `factor` divides, or, `together`, those of a
  position follow each other, its rows first.
  """

  width: int
  dtype: jnp.dtype
  factor: int = 2
  together: bool = False

  @nn.compact
  def __call__(self, x_BPE):
    x = space_to_depth(x_BPE, self.factor, self.together)
    return MLPConnector(self.width, self.dtype, name="mlp")(
      LayerNorm(1e-6, name="norm")(x)
    )


class MergeConnector(nn.Module):
  """Neighbouring features become one vector; two linear maps and GELU follow.

  Wang et al. 2024, section 2.1: hidden units are as many as the vector has numbers. As
  in `ShuffleConnector`, whose norm this one leaves to the encoder.
  """

  width: int
  dtype: jnp.dtype
  factor: int = 2
  together: bool = False

  @nn.compact
  def __call__(self, x_BPE):
    x = space_to_depth(x_BPE, self.factor, self.together)
    return two_maps(x, x.shape[-1], self.width, self.dtype)


def space_to_depth(x_BPE, factor: int, together: bool = False):
  """[B, P, E] of a square grid -> [B, P / factor^2, factor^2 E], rows first.

  Those that become one may stand `together` already, in a grid of any shape.

  Raises:
    ValueError: P is no square of a multiple of `factor`.
  """
  B, P, E = x_BPE.shape
  if together:
    return x_BPE.reshape(B, P // factor**2, factor**2 * E)
  grid = math.isqrt(P)
  if grid**2 != P or grid % factor:
    raise ValueError(
      f"space to depth by {factor}: {P} features are no square grid that {factor} "
      "divides: change the picture's size or the encoder's patch size"
    )
  small = grid // factor
  x = x_BPE.reshape(B, small, factor, small, factor, E).swapaxes(2, 3)
  return x.reshape(B, small**2, factor**2 * E)


class Resampler(nn.Module):
  """Learned queries look at the features: a fixed number of positions.

  As in Alayrac et al. 2022 (Perceiver resampler): in every layer the queries attend to
  the features and to themselves, then a feed-forward layer. Features enter without
  positions of their own, so their order does not matter.

  Attributes:
    width: of what comes out.
    dtype: of it; that of the layers inside is `config.dtype`.
    config: depth, width and heads of the layers.
    queries: positions that come out.
  """

  width: int
  dtype: jnp.dtype
  config: TowerConfig
  queries: int

  @nn.compact
  def __call__(self, x_BPE):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    init = nn.initializers.normal(1.0)
    query = param(self, "query", init, (self.queries, c.width), (None, "embed"))
    q = jnp.broadcast_to(query.astype(dtype), (x_BPE.shape[0], *query.shape))
    x = Linear(c.width, ("patch", "embed"), dtype, True, name="in")(x_BPE)
    out_scale = (2 * c.depth) ** -0.5
    for i in range(c.depth):  # few layers: no scan
      names = [f"{name}_norm_{i}" for name in ("query", "feature", "mlp")]
      norms = [Norm(c.norm_eps, kind=c.norm_kind, name=name) for name in names]
      asked = norms[0](q)
      source = jnp.concatenate([norms[1](x), asked], axis=1)
      attention = EncoderAttention(c, out_scale, name=f"attention_{i}")
      q = q + attention(asked, everything(), source_BSE=source)
      q = q + FeedForward(c, out_scale, name=f"mlp_{i}")(norms[2](q))
    q = Norm(c.norm_eps, kind=c.norm_kind, name="final_norm")(q)
    return Linear(self.width, ("patch", "embed"), self.dtype, True, name="out")(q)


class QFormerConnector(nn.Module):
  """The queries of a Q-Former without its text, then a linear map (Li et al. 2023).

  Attributes:
    width: of what comes out.
    dtype: of it; that of the blocks inside is `config.dtype`.
    config, cross_every, normed: of `qformer.Queries`.
    queries: positions that come out.
  """

  width: int
  dtype: jnp.dtype
  config: TextConfig
  queries: int
  cross_every: int
  normed: bool = True

  @nn.compact
  def __call__(self, x_BPE):
    c = self.config
    about = self.queries, self.cross_every, self.normed, False
    text = jnp.zeros((x_BPE.shape[0], 0, c.width), jnp.dtype(c.dtype))
    stack = Queries(c, *about, name="queries")
    q = stack.mix(x_BPE, text, everything())
    return Linear(self.width, ("patch", "embed"), self.dtype, True, name="out")(q)


CONNECTORS = {
  "linear": LinearConnector,
  "mlp": MLPConnector,
  "shuffle": ShuffleConnector,
  "merge": MergeConnector,
  "resampler": Resampler,
  "qformer": QFormerConnector,
}
