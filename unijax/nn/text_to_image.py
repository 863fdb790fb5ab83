"""A model that only draws: an encoder of the caption, and a diffusion transformer.

Both are trained together. The encoder is the decoder's own stack of blocks, read in
both directions; a caption is never longer than its row, and padding is never seen.
With `dit.told="vectors"` there is no encoder: what one elsewhere said is given.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import Config, DitConfig, ModelConfig
from unijax.nn.both_ways import BothWays
from unijax.nn.dit import DiT
from unijax.nn.dit_blocks import Condition, Fitted
from unijax.nn.layers import Embedding


class TextEncoder(nn.Module):
  """Tokens in, one vector a token out; every real token sees every other."""

  config: ModelConfig
  dit: DitConfig
  vocab: int

  @nn.compact
  def __call__(self, tokens_BS, length_B) -> Condition:
    """int32 tokens [B, S], of which the first length_B[b] are real."""
    dtype = jnp.dtype(self.config.dtype)
    x_BSD = Embedding(self.vocab, self.config.width, dtype, name="embedding")(tokens_BS)
    h_BSD = BothWays(self.config, name="blocks")(x_BSD, length_B)
    return Fitted(self.dit, dtype, name="fit")(Condition(h_BSD, length_B))


class TextToImage(nn.Module):
  """Caption and noised patches in, denoising prediction out."""

  text: TextEncoder | None
  dit: DiT

  def __call__(self, x_BPC, time_B, tokens_BS, length_B) -> jax.Array:
    """The prediction, float32 [B, P, C], of kind `diffusion.predict`."""
    return self.dit(x_BPC, time_B, self.condition(tokens_BS, length_B))

  def condition(self, tokens_BS, length_B) -> Condition:
    """What the caption says; the same at every timestep."""
    return self.text(tokens_BS, length_B)

  def predict(self, x_BPC, time_B, condition: Condition) -> jax.Array:
    """The same as the call, from a condition that is known."""
    return self.dit(x_BPC, time_B, condition)


def make_text_to_image(config: Config, vocab: int) -> TextToImage:
  """Builds the module for a config; `model` sizes the encoder.

  Args:
    config: of the run.
    vocab: ids that the token table holds.
  """
  encoder = TextEncoder(config.model, config.dit, vocab)
  return TextToImage(
    encoder if config.dit.told == "captions" else None,
    DiT(
      config.dit, config.model, config.patch_channels, config.grid,
      config.sample.guidance_told,
    ),
  )  # fmt: skip


def given(c: DitConfig, rows: int, vectors: int) -> Condition:
  """The form of a condition that is given: zeros.

  Args:
    c: of the transformer that is told it.
    rows: pictures.
    vectors: of each.
  """
  return Condition(
    jnp.zeros((rows, vectors, c.condition_width)), jnp.full(rows, vectors, jnp.int32),
    jnp.zeros((rows, c.pooled_width)) if c.pooled_width else None,
  )  # fmt: skip
