"""Pictures read through an encoder: pixels -> vectors for positions of the row.

  features    a connector's outputs stand at positions of their own (Liu et al. 2023)
  fused       each patch is combined with the feature at its place (Xie et al. 2025,
              section 3.1: norm, then two layers, on both side by side)
  fused_latents  likewise, of the patches themselves: those of every image, as the
              decoder has them, which may be noised

The encoder and the connector are ordinary parameters, `vision/..` and `connector/..`:
`optim.freeze` says whether they rest, `--init-from` where they come from.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import READS, Config
from unijax.config_reads import FACTORS
from unijax.nn.connectors import CONNECTORS
from unijax.nn.encoder import ACTIVATIONS
from unijax.nn.layers import Linear, RMSNorm
from unijax.nn.logical import constrain
from unijax.nn.patches import gathered, scattered
from unijax.nn.vision import VisionTransformer, normalised, resized
from unijax.types import Inputs


class Fusion(nn.Module):
  """Vectors of a position side by side -> RMS norm -> linear -> GELU -> linear."""

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, *parts):
    x = jnp.concatenate([x.astype(self.dtype) for x in parts], axis=-1)
    into = Linear(self.width, ("patch", "mlp"), self.dtype, True, name="in")
    out = Linear(self.width, ("mlp", "embed"), self.dtype, True, name="out")
    return out(ACTIVATIONS["gelu"](into(RMSNorm(1e-6, name="norm")(x))))


def make_reader(config: Config) -> tuple[nn.Module | None, nn.Module | None]:
  """Returns (encoder, connector) of a config; None where it has none."""
  m, read = config.model, READS[config.model.read]
  if not read.encodes:
    return None, None
  unit, a = config.unit, config.align
  whole = m.connector == "qformer" and a.class_seen
  encoder = VisionTransformer(
    config.vision, config.seen_size, pooled=False, factor=unit, whole=whole
  )
  if not read.features:
    return encoder, None
  more = {"activation": m.connector_activation} if m.connector == "mlp" else {}
  if m.connector in FACTORS:
    more = {"factor": unit, "together": config.native}
  if m.connector == "resampler":  # layers like the encoder's
    layers = dataclasses.replace(config.vision, depth=m.connector_depth)
    more = {"config": layers, "queries": m.connector_queries}
  if m.connector == "qformer":
    more = {
      "config": config.text, "queries": m.connector_queries,
      "cross_every": a.cross_every, "normed": a.feature_norm,
    }  # fmt: skip
  return encoder, CONNECTORS[m.connector](m.width, jnp.dtype(m.dtype), **more)


def of_latents(encoder, inputs: Inputs, images: int) -> jax.Array:
  """What the encoder says of each patch of latents, seeing its image: [B, T, E].

  Values at positions that hold no patch are arbitrary.

  Args:
    encoder: of `make_reader`.
    inputs: with patches.
    images: largest number of images in a row.
  """
  x_BIPC = gathered(inputs, inputs.patches_BTC, images, encoder.grid**2)
  B, I, P, C = x_BIPC.shape
  _, x = encoder(x_BIPC.reshape(B * I, P, C))
  return scattered(inputs, x.reshape(B, I, P, -1))


def features(encoder, connector, inputs: Inputs, place_PD=None) -> jax.Array:
  """What the encoder says of the picture at each position: [B, T, E], 0 elsewhere.

  Pictures of a row that are not there are computed like the others and read by nobody.

  Args:
    encoder, connector: of `make_reader`.
    inputs: with pictures.
    place_PD: vectors of places, of a grid whose first rows and columns the features
      have; None adds none.
  """
  B = inputs.tokens_BT.shape[0]
  pixels = jnp.asarray(inputs.pixels_BIHWC)
  grid = inputs.grid_BI2
  grid = None if grid is None else jnp.asarray(grid).reshape(-1, 2)
  _, x = encoder(normalised(pixels.reshape(-1, *pixels.shape[2:])), grid_B2=grid)
  if connector is not None:
    x = connector(x)
  if place_PD is not None:
    x = x + resized(place_PD, encoder.grid, "corner").astype(x.dtype)
  x_BSE = constrain(x.reshape(B, -1, x.shape[-1]), "batch", None, "act_embed")
  place = jnp.maximum(inputs.feature_BT, 0)[..., None]
  x_BTE = jnp.take_along_axis(x_BSE, place, axis=1)
  return jnp.where((inputs.feature_BT >= 0)[..., None], x_BTE, 0)
