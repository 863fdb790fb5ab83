"""Codes of images with a table and a head of their own, beside those of text.

Where codes are rows of the token table they share its width, and one softmax with text.
Here they enter as in Wu et al. 2024 (Janus, section 3.1) and Chen et al. 2025: a narrow
table, then two layers; and leave through two layers, with a softmax of their own.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.layers import ACTIVATIONS, Embedding, Linear


class MLPCodes(nn.Module):
  """Table [codes, code_width] -> linear -> GELU -> linear; linear -> GELU -> codes.

  Attributes:
    config: its width, the width of the table and the dtype.
    codes: entries of the codebook.
  """

  config: ModelConfig
  codes: int

  def setup(self):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    self.embedding = Embedding(self.codes, c.code_width, dtype, ("vocab", "patch"))
    self.enter = Linear(c.width, ("patch", "mlp"), dtype, bias=True)
    self.widen = Linear(c.width, ("mlp", "embed"), dtype, bias=True)
    # The codes are divided like any vocabulary; what they are read from is whole then.
    self.hidden = Linear(c.width, ("embed", None), dtype, bias=True)
    self.head = Linear(self.codes, ("embed", "vocab"), dtype, bias=True)

  def embed(self, code_BT) -> jax.Array:
    """Numbers of codes -> [B, T, D]; what is no code gives something to be ignored."""
    x = self.embedding(jnp.clip(code_BT, 0, self.codes - 1))
    return self.widen(ACTIVATIONS["gelu"](self.enter(x)))

  def logits(self, h) -> jax.Array:
    """[..., D] -> float32 [..., codes]."""
    return self.head(ACTIVATIONS["gelu"](self.hidden(h))).astype(jnp.float32)


CODE_ADAPTERS = {"none": None, "mlp": MLPCodes}
