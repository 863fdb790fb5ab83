"""Encoders of pictures and of words: layer norms, biases, any mask, blocks under scan.

The decoder of `unijax.nn.transformer` is one architecture with one mask. Encoders that
were published differ in small ways, and all of these are values here, so that their
weights can be imported: where norms stand, which projections have a bias, what the
hidden units compute.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from unijax.config_parts import TowerConfig
from unijax.nn import rope
from unijax.nn.attention import ATTENTION
from unijax.nn.attention_dense import attend
from unijax.nn.layers import ACTIVATIONS, ORDERS, Linear, Norm, RMSNorm, param
from unijax.nn.logical import constrain
from unijax.nn.transformer import REMAT

BIASED = {"all": "qkv", "query_value": "qv", "none": ""}


def everything() -> jax.Array:
  """The mask [1, 1, 1] in which every query sees every key."""
  return jnp.ones((1, 1, 1), bool)


class EncoderAttention(nn.Module):
  """Attention under any mask, over the queries' own sequence or another one.

  `out_scale` multiplies the deviation of the last kernel at the start.
  """

  config: TowerConfig
  out_scale: float = 1.0

  @nn.compact
  def __call__(self, x_BTD, mask_BTS, rotation=None, source_BSE=None):
    """Mixes.

    Args:
      x_BTD: what asks.
      mask_BTS: bool, axes of size 1 are broadcast; True where the query sees the key.
      rotation: of queries and keys alike, of `rope.rotation`; None turns nothing.
      source_BSE: what is looked at, of any width; None is x itself.

    Returns:
      [B, T, D].
    """
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    source = x_BTD if source_BSE is None else source_BSE

    def project(name, x, axis):
      bias = name in BIASED[c.qkv_bias]
      y = Linear(c.width, ("embed", axis), dtype, bias=bias, name=name)(x)
      y = y.reshape(*x.shape[:2], c.heads, c.width // c.heads)
      return constrain(y, "batch", None, "act_heads", None)

    q = project("q", x_BTD, "heads")
    k = project("k", source, "kv_heads")
    v = project("v", source, "kv_heads")
    if c.qk_norm:
      q = RMSNorm(c.norm_eps, "head_norm", name="q_norm")(q)
      k = RMSNorm(c.norm_eps, "head_norm", name="k_norm")(k)
    if rotation is not None:
      q, k = rope.rotate(q, rotation), rope.rotate(k, rotation)
    y = checkpoint_name(attend(q, k, v, mask_BTS), ATTENTION)
    y = y.reshape(*x_BTD.shape[:2], c.width)
    if c.sub_norm:  # Wang et al. 2022
      y = Norm(c.norm_eps, kind=c.norm_kind, name="sub_norm")(y)
    out = Linear(
      c.width, ("heads", "embed"), dtype, bias=True, scale=self.out_scale, name="out"
    )
    return out(y)


class FeedForward(nn.Module):
  """Two layers with one of `ACTIVATIONS` between, or SwiGLU with biases."""

  config: TowerConfig
  out_scale: float = 1.0

  @nn.compact
  def __call__(self, x_BTD):
    c, dtype = self.config, jnp.dtype(self.config.dtype)

    def up(name):
      return Linear(c.mlp_width, ("embed", "mlp"), dtype, bias=True, name=name)(x_BTD)

    if c.mlp == "swiglu":
      hidden = nn.silu(up("gate")) * up("up")
    else:
      hidden = ACTIVATIONS[c.mlp](up("up"))
    hidden = constrain(hidden, "batch", None, "act_mlp")
    if c.sub_norm:
      hidden = Norm(c.norm_eps, kind=c.norm_kind, name="sub_norm")(hidden)
    down = Linear(
      c.width, ("mlp", "embed"), dtype, bias=True, scale=self.out_scale, name="down"
    )
    return down(hidden)


class EncoderBlock(nn.Module):
  """Attention, then the feed-forward layer, each a residual branch."""

  config: TowerConfig

  @nn.compact
  def __call__(self, x_BTD, mask_BTS, rotation, near_BTS=None, whole=True):
    """Runs the block; see `Encoder`. `whole`: windows do not count here."""
    c = self.config
    if near_BTS is not None:
      mask_BTS = mask_BTS & (near_BTS | whole)
    out_scale = (2 * c.depth) ** -0.5  # keeps the residual stream's variance flat
    attention = EncoderAttention(c, out_scale, name="attention")
    mlp = FeedForward(c, out_scale, name="mlp")
    norms = [
      Norm(c.norm_eps, kind=c.norm_kind, name=f"{n}_norm") for n in ("attention", "mlp")
    ]

    def attend_scaled(x):
      return self._scaled("attention_scale", attention(x, mask_BTS, rotation))

    x_BTD = ORDERS[c.norm](x_BTD, attend_scaled, norms[0])
    x_BTD = ORDERS[c.norm](x_BTD, lambda x: self._scaled("mlp_scale", mlp(x)), norms[1])
    return constrain(x_BTD, "batch", None, "act_embed"), None

  def _scaled(self, name, y_BTD):
    c = self.config
    if not c.layer_scale:
      return y_BTD
    init = nn.initializers.constant(c.layer_scale)  # Touvron et al. 2021, eq. 1
    return y_BTD * param(self, name, init, (c.width,), ("norm",)).astype(y_BTD.dtype)


class KeepingBlock(EncoderBlock):
  """A block whose carry remembers the sequence as it was after the first `left`."""

  def __call__(self, carry, *rest):
    x_BTD, kept_BTD, left = carry
    x_BTD, _ = super().__call__(x_BTD, *rest)
    return (x_BTD, jnp.where(left > 0, x_BTD, kept_BTD), left - 1), None


class Encoder(nn.Module):
  """All blocks: [B, T, D] -> [B, T, D]. Where the last norm stands is the caller's."""

  config: TowerConfig

  @nn.compact
  def __call__(
    self, x_BTD, mask_BTS, rotation=None, skip: int = 0, near_BTS=None, whole=()
  ):
    """Runs the blocks.

    Args:
      x_BTD: the sequence.
      mask_BTS: as in `EncoderAttention`.
      rotation: likewise.
      skip: how many blocks at the end the second result does without.
      near_BTS: bool, what blocks see of the mask; None: all of it.
      whole: numbers of blocks that see all of it nevertheless.

    Returns:
      (after all blocks [B, T, D], after all but the last `skip` [B, T, D]).
    """
    c = self.config
    x_BTD = constrain(x_BTD, "batch", None, "act_embed")
    kind = KeepingBlock if skip else EncoderBlock
    each = near_BTS is not None
    rest = (mask_BTS, rotation)
    if each:
      rest = (*rest, near_BTS, jnp.isin(jnp.arange(c.depth), jnp.asarray(whole)))
    blocks = scanned(kind, c.remat, c.depth, 2 + each, each)(c, name="blocks")
    if not skip:
      x_BTD = blocks(x_BTD, *rest)[0]
      return x_BTD, x_BTD
    carry = x_BTD, x_BTD, jnp.asarray(c.depth - skip)
    return blocks(carry, *rest)[0][:2]


def scanned(block, remat: str, length: int, broadcast: int, each: int = 0):
  """Returns a module class that runs `length` blocks with stacked parameters.

  Args:
    block: module class; its call returns (x, None).
    remat: what the backward pass finds saved, of `REMAT`.
    length: blocks.
    broadcast: arguments after x, the same for every block.
    each: arguments after these, whose first axis is that of the blocks.
  """
  if remat != "none":
    block = nn.remat(block, policy=REMAT[remat], prevent_cse=False)
  return nn.scan(
    block,
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=(nn.broadcast,) * broadcast + (0,) * each,
    length=length,
    metadata_params={nn.PARTITION_NAME: "layers"},
  )
