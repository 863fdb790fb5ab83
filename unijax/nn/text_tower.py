"""Words in, one vector out: the text encoder of contrastive models."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config_parts import TextConfig
from unijax.nn.encoder import Encoder, Norm, everything
from unijax.nn.layers import Embedding, param


def at_end(h_BTD: jax.Array, end_B: jax.Array) -> jax.Array:
  """The position `end_B` of every row: [B, D]. A sum, as rows may be divided."""
  here = jnp.arange(h_BTD.shape[1]) == end_B[:, None]
  return jnp.where(here[..., None], h_BTD, 0).sum(axis=1)


POOLS = {
  "eos": at_end,
  "last": lambda h_BTD, end_B: h_BTD[:, -1],
}


class TextTransformer(nn.Module):
  """An encoder of captions, padded to one length.

  Causal, it reads the end of the text (Radford et al. 2021), which sees no padding.
  Bidirectional, it sees padding as it sees words, as Zhai et al. 2023 train it: the
  length is then part of the model.
  """

  config: TextConfig
  vocab: int

  @nn.compact
  def __call__(self, tokens_BT, end_B):
    """Encodes.

    Args:
      tokens_BT: int32, `config.length` positions.
      end_B: int32, where the text ends.

    Returns:
      (pooled [B, D], hidden states [B, T, D]).
    """
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    T = tokens_BT.shape[1]
    x = Embedding(self.vocab, c.width, dtype, name="embedding")(tokens_BT)
    init = nn.initializers.normal(0.01)
    place = param(self, "position", init, (c.length, c.width), (None, "embed"))
    x = x + place[:T].astype(dtype)
    mask = jnp.tril(jnp.ones((T, T), bool))[None] if c.causal else everything()
    h, _ = Encoder(c, name="encoder")(x, mask)
    h = Norm(c.norm_eps, kind=c.norm_kind, name="final_norm")(h)
    return POOLS[c.pool](h, end_B), h
