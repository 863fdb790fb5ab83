"""Modules that are trained to agree about pictures and their texts.

Each says how a picture becomes unit vectors [B, Q, E] (`images`) and a text becomes one
[B, E] (`texts`); the losses on these are in `unijax.train`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.nn.layers import Linear, param
from unijax.nn.qformer import QFormer
from unijax.nn.text_tower import TextTransformer
from unijax.nn.vision import VisionTransformer, normalised
from unijax.types import Pairs


@jax.custom_vjp
def at_most(x: jax.Array, limit: float) -> jax.Array:
  """min(x, limit) that can come back: only gradients that would raise x are stopped."""
  return jnp.minimum(x, limit)


def _at_most_forward(x, limit):
  return jnp.minimum(x, limit), x >= limit


def _at_most_backward(above, g):
  return jnp.where(above & (g < 0), 0.0, g), None


at_most.defvjp(_at_most_forward, _at_most_backward)


def unit(x: jax.Array) -> jax.Array:
  """Scales the last axis to length one, in float32."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-12)


class Aligned(nn.Module):
  """What contrastive modules share: a learned scale and, for the sigmoid, a bias."""

  config: Config
  vocab: int

  def declare_scale(self):
    a = self.config.align
    if a.scale_learned:
      start = nn.initializers.constant(math.log(a.scale))
      self.log_scale = param(self, "log_scale", start, (), ())
    if a.objective == "sigmoid":
      self.bias = param(self, "bias", nn.initializers.constant(a.bias), (), ())

  def scale(self) -> jax.Array:
    """What cosines are multiplied by, at most `align.max_scale`."""
    if not self.config.align.scale_learned:
      return jnp.asarray(self.config.align.scale)
    return jnp.exp(at_most(self.log_scale, math.log(self.config.align.max_scale)))

  def projection(self, kind: str, dtype: str):
    """A linear map to the shared width, or none."""
    if kind == "none":
      return lambda x: x
    bias, width = kind == "bias", self.config.align.width
    return Linear(width, ("patch", "embed"), jnp.dtype(dtype), bias)


class DualEncoder(Aligned):
  """A picture and a text meet only in the product of their vectors."""

  def setup(self):
    c = self.config
    self.vision = VisionTransformer(c.vision, c.data.image_size)
    self.text = TextTransformer(c.text, self.vocab)
    self.image_projection = self.projection(c.align.image_projection, c.vision.dtype)
    self.text_projection = self.projection(c.align.text_projection, c.text.dtype)
    self.declare_scale()

  def images(self, pixels_BHWC) -> jax.Array:
    """uint8 pixels -> unit vectors, float32 [B, 1, E]."""
    pooled, _ = self.vision(normalised(pixels_BHWC))
    return unit(self.image_projection(pooled))[:, None]

  def texts(self, tokens_BT, end_B) -> jax.Array:
    """Captions -> unit vectors, float32 [B, E]."""
    pooled, _ = self.text(tokens_BT, end_B)
    return unit(self.text_projection(pooled))

  def __call__(self, batch: Pairs):
    """Returns (images, texts, scale, bias); the bias is 0 where there is none."""
    bias = self.bias if self.config.align.objective == "sigmoid" else 0.0
    images = self.images(batch.pixels_BHWC)
    return images, self.texts(batch.tokens_BT, batch.end_B), self.scale(), bias


class QueryEncoder(Aligned):
  """Learned queries read a picture; alone or together with a text (`QFormer`).

  Attributes:
    given: width of features that come in place of pixels, from a frozen encoder; 0
      trains an encoder of its own.
  """

  given: int = 0

  def setup(self):
    c, a = self.config, self.config.align
    if not self.given:
      self.vision = VisionTransformer(c.vision, c.data.image_size, whole=a.class_seen)
    self.qformer = QFormer(
      c.text, a.queries, a.cross_every, a.feature_norm, vocab=self.vocab,
      writes=a.writes,
    )  # fmt: skip
    self.image_projection = self.projection(a.image_projection, c.text.dtype)
    self.text_projection = self.projection(a.text_projection, c.text.dtype)
    self.declare_scale()

  def features(self, pictures):
    """What the queries look at: [B, P, E] of uint8 pixels, or as it is given."""
    return pictures if self.given else self.vision(normalised(pictures))[1]

  def both(self, features_BPE, tokens_BT, end_B):
    """Unit vectors of (pictures [B, Q, E], texts [B, E]) that do not see each other."""
    query, text = self.qformer(features_BPE, tokens_BT, end_B, "separate")
    return unit(self.image_projection(query)), unit(self.text_projection(text[:, 0]))

  def images(self, pictures) -> jax.Array:
    """Pixels, or features where these are given -> unit vectors [B, Q, E]."""
    return unit(self.image_projection(self.qformer.read(self.features(pictures))))

  def texts(self, tokens_BT, end_B) -> jax.Array:
    """Captions -> unit vectors [B, E]; what stands for a picture is not seen."""
    width = self.given or self.config.vision.width
    return self.both(jnp.zeros((len(tokens_BT), 1, width)), tokens_BT, end_B)[1]

  def matching(self, features_BPE, tokens_BT, end_B) -> jax.Array:
    """Logits [B, 2] of a text not belonging, belonging to a picture."""
    query, _ = self.qformer(features_BPE, tokens_BT, end_B, "joint")
    return self.qformer.match(query)

  def writing(self, features_BPE, tokens_BT, end_B) -> jax.Array:
    """Next-token logits [B, T, V] of texts, given their pictures."""
    _, text = self.qformer(features_BPE, tokens_BT, end_B, "generate")
    return self.qformer.words(text)

  def __call__(self, pictures, tokens_BT, end_B):
    """Runs every part once, so that all parameters are made."""
    features = self.features(pictures)
    images, texts = self.both(features, tokens_BT, end_B)
    match = self.matching(features, tokens_BT, end_B)
    writes = self.config.align.writes
    words = self.writing(features, tokens_BT, end_B) if writes else None
    return images, texts, match, words, self.scale()


class LoneEncoder(nn.Module):
  """An encoder of pictures that no text was ever compared with."""

  config: Config

  def setup(self):
    self.vision = VisionTransformer(self.config.vision, self.config.data.image_size)

  def __call__(self, pixels_BHWC) -> jax.Array:
    """uint8 pixels -> unit vectors, float32 [B, 1, E]."""
    return unit(self.vision(normalised(pixels_BHWC))[0])[:, None]


class MaskedStudent(nn.Module):
  """Predicts features of hidden patches that a teacher saw (Fang et al. 2023).

  Attributes:
    config: of the run.
    features: width of the teacher's.
  """

  config: Config
  features: int

  @nn.compact
  def __call__(self, pixels_BHWC, hidden_BP) -> jax.Array:
    """uint8 pixels and what is hidden of them -> float32 [B, P, features]."""
    c = self.config
    vision = VisionTransformer(c.vision, c.data.image_size, True, name="vision")
    _, seen = vision(normalised(pixels_BHWC), hidden_BP)
    dtype = jnp.dtype(c.vision.dtype)
    head = Linear(self.features, ("embed", None), dtype, bias=True, name="predictor")
    return head(seen).astype(jnp.float32)
