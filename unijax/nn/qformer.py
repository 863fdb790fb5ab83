"""Learned queries that read a picture, and words that share their self-attention.

One stack of blocks holds queries and text in one sequence (Li et al. 2023, section 3):
self-attention over both under one of three masks, cross-attention of the queries alone
to the features of the picture in every few blocks, and feed-forward layers of their own
for queries and for text. The masks are what makes three losses of one stack:

  separate   queries see queries, text sees text          for contrast
  joint      all see all                                  for matching
  generate   queries see queries, text sees queries and the text before it
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config_parts import TextConfig
from unijax.nn.encoder import (
  ACTIVATIONS,
  ORDERS,
  EncoderAttention,
  FeedForward,
  Norm,
  everything,
  scanned,
)
from unijax.nn.layers import Embedding, Linear, param
from unijax.nn.logical import constrain

# (query of attention is text, key is text, key stands no later) -> whether it is seen
MASKS = {
  "separate": lambda asks, seen, before: asks == seen,
  "joint": lambda asks, seen, before: (asks | True) & (seen | True),
  "generate": lambda asks, seen, before: jnp.where(asks, ~seen | before, ~seen),
}


def mask(name: str, queries: int, end_B: jax.Array, length: int) -> jax.Array:
  """The mask of a pass: bool [B, Q + T, Q + T]. Nobody sees what is behind `end_B`.

  Args:
    name: of `MASKS`.
    queries: how many stand before the text.
    end_B: int32, the last position of each text.
    length: positions of text, with padding.
  """
  place = jnp.arange(queries + length)
  is_text = place >= queries
  before = place[None, :] <= place[:, None]
  seen = MASKS[name](is_text[:, None], is_text[None, :], before)
  real = ~is_text | (place - queries <= end_B[:, None])
  return seen[None] & real[:, None]


class QFormerBlock(nn.Module):
  """Self-attention of all, cross-attention of the queries, two feed-forward layers.

  Without `with_text` there is no text, and no feed-forward layer for it.
  """

  config: TextConfig
  queries: int
  cross: bool
  with_text: bool = True

  @nn.compact
  def __call__(self, x_BTD, mask_BTT, image_BPE):
    c, Q = self.config, self.queries
    out_scale = (2 * c.depth) ** -0.5
    order = ORDERS[c.norm]

    def norm(name):
      return Norm(c.norm_eps, kind=c.norm_kind, name=f"{name}_norm")

    attention = EncoderAttention(c, out_scale, name="attention")
    x = order(x_BTD, lambda x: attention(x, mask_BTT), norm("attention"))
    query, text = x[:, :Q], x[:, Q:]
    if self.cross:
      cross = EncoderAttention(c, out_scale, name="cross")
      query = order(
        query, lambda q: cross(q, everything(), source_BSE=image_BPE), norm("cross")
      )
    query = order(query, FeedForward(c, out_scale, name="query_mlp"), norm("query_mlp"))
    if self.with_text:
      text = order(text, FeedForward(c, out_scale, name="text_mlp"), norm("text_mlp"))
    x = jnp.concatenate([query, text], axis=1)
    return constrain(x, "batch", None, "act_embed")


class QFormerGroup(nn.Module):
  """Consecutive blocks, of which the first looks at the picture."""

  config: TextConfig
  queries: int
  cross_every: int
  with_text: bool = True

  @nn.compact
  def __call__(self, x_BTD, mask_BTT, image_BPE):
    for i in range(self.cross_every):
      about = self.queries, i == 0, self.with_text
      block = QFormerBlock(self.config, *about, name=f"block_{i}")
      x_BTD = block(x_BTD, mask_BTT, image_BPE)
    return x_BTD, None


class Queries(nn.Module):
  """Learned queries, and the stack of blocks in which they look at a picture.

  Attributes:
    config: shape of the stack, which is that of a text encoder.
    queries: vectors that read the picture.
    cross_every: blocks from one look at the picture to the next.
    normed: features pass a norm before the queries look at them.
    with_text: text may stand behind the queries.
  """

  config: TextConfig
  queries: int
  cross_every: int
  normed: bool = True
  with_text: bool = True

  def setup(self):
    c = self.config
    init = nn.initializers.normal(0.02)
    self.query = param(self, "query", init, (self.queries, c.width), (None, "embed"))
    self.embed_norm = Norm(c.norm_eps, kind=c.norm_kind)
    if self.normed:
      self.feature_norm = Norm(c.norm_eps, kind=c.norm_kind)
    groups = scanned(QFormerGroup, c.remat, c.depth // self.cross_every, broadcast=2)
    self.groups = groups(c, self.queries, self.cross_every, self.with_text)
    if c.norm != "post":
      self.final_norm = Norm(c.norm_eps, kind=c.norm_kind)

  def mix(self, features_BPE, text_BTD, seen_BTT):
    """The blocks over (queries, text [B, T, D]) under a mask: [B, Q + T, D]."""
    dtype = jnp.dtype(self.config.dtype)
    shape = (features_BPE.shape[0], *self.query.shape)
    query = jnp.broadcast_to(self.query.astype(dtype), shape)
    x = self.embed_norm(jnp.concatenate([query, text_BTD], axis=1))
    image = features_BPE.astype(dtype)
    x = self.groups(x, seen_BTT, self.feature_norm(image) if self.normed else image)[0]
    return x if self.config.norm == "post" else self.final_norm(x)


class QFormer(Queries):
  """Queries and text over the features of a picture.

  Attributes:
    vocab: ids of the token table.
    writes: next-token logits can be asked for.
  """

  vocab: int = 0
  writes: bool = True

  def setup(self):
    super().setup()
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    init = nn.initializers.normal(0.02)
    self.embedding = Embedding(self.vocab, c.width, dtype)
    shape = (c.length, c.width)
    self.position = param(self, "position", init, shape, (None, "embed"))
    self.match_head = Linear(2, ("embed", None), dtype, bias=True)
    if self.writes:
      self.word_transform = Linear(c.width, ("embed", "mlp"), dtype, bias=True)
      self.word_norm = Norm(c.norm_eps, kind=c.norm_kind)
      zeros = nn.initializers.zeros_init()
      self.word_bias = param(self, "word_bias", zeros, (self.vocab,), ("vocab",))

  def __call__(self, features_BPE, tokens_BT, end_B, name: str):
    """Runs one pass.

    Args:
      features_BPE: of the pictures.
      tokens_BT: int32, texts of at most `config.length` positions.
      end_B: int32, the last position of each text.
      name: of the mask, of `MASKS`.

    Returns:
      Hidden states of (queries [B, Q, D], text [B, T, D]).
    """
    T = tokens_BT.shape[1]
    text = self.embedding(tokens_BT)
    text = text + self.position[:T].astype(text.dtype)
    x = self.mix(features_BPE, text, mask(name, self.queries, end_B, T))
    return x[:, : self.queries], x[:, self.queries :]

  def read(self, features_BPE):
    """The queries' view of pictures alone: [B, Q, D]; what a language model reads."""
    nothing = jnp.zeros((features_BPE.shape[0], 0), jnp.int32)
    return self(features_BPE, nothing, nothing.sum(axis=1), "separate")[0]

  def match(self, query_BQD):
    """Do picture and text belong together? float32 [B, 2], a mean over the queries."""
    return self.match_head(query_BQD).astype(jnp.float32).mean(axis=1)

  def words(self, text_BTD):
    """Next-token logits: float32 [B, T, V], tied to the token table."""
    h = self.word_norm(ACTIVATIONS["gelu"](self.word_transform(text_BTD)))
    return self.embedding.attend(h) + self.word_bias
