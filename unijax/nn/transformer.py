"""The decoder: a scan over identical blocks, with a named remat policy."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ConfigError, ModelConfig
from unijax.nn import logical, masks, modality, rope
from unijax.nn.attention import ATTENTION, WEIGHTS, Attention, pick_backend
from unijax.nn.layers import ORDERS, Norm, param
from unijax.nn.logical import constrain
from unijax.nn.modality import GroupedNorm
from unijax.nn.moe import ROUTING
from unijax.nn.sharing import SHARING
from unijax.types import Cache, Inputs

# What the backward pass of a block finds saved besides the block's input; the rest it
# computes again. `attention` is the mixed values, the dearest thing to compute twice;
# `offload` keeps them in the host's memory.
REMAT = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "attention": jax.checkpoint_policies.save_only_these_names(ATTENTION),
  "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[], names_which_can_be_offloaded=[ATTENTION],
    offload_src="device", offload_dst="pinned_host",
  ),
}  # fmt: skip


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), or as `model.block` has it.

  A parallel block adds both branches of one norm at once (Wang & Komatsuzaki 2021);
  `ORDERS` has where the norms of the others stand.

  With AdaLN (Peebles & Xie 2023, one shared projection and an offset a layer as in
  PixArt-alpha) what enters the branches is shifted and scaled, and what they add is
  gated, at image positions; `modulation_BT6D` is None elsewhere in the design space.
  `groups` is None where nothing depends on the modality of a position; see
  `sharing.Sharing` for the order that x_BTD and the modulation come in.
  """

  config: ModelConfig
  backend: str
  lookahead: int

  @nn.compact
  def __call__(self, x_BTD, cached, rotation, sees, cache_mask_BTS, modulation, groups):
    c, sharing = self.config, SHARING[self.config.sharing]
    norm, more, attended = Norm, (), None
    if sharing.sorted:
      norm, more, attended = GroupedNorm, (groups,), groups
    out_scale = (2 * c.depth) ** -0.5  # keeps the residual stream's variance flat
    if cached is not None:
      cached = (*cached, cache_mask_BTS)
    if modulation is None:
      change = gate = [lambda x: x] * 2
    else:
      change, gate = self._adaln(*modulation)
    attention = Attention(c, out_scale, self.backend, self.lookahead, name="attention")
    kv = None

    def normed(name):
      of = norm(c.norm_eps, kind=c.norm, name=f"{name}_norm")
      return lambda x: of(x, *more)

    def mix(x):
      nonlocal kv
      y, kv = attention(change[0](x), rotation, sees, cached, attended)
      return y

    def think(x):
      return sharing.mlp(c, out_scale, change[1](x), groups)

    if c.block == "parallel":
      y = normed("attention")(x_BTD)
      x_BTD = x_BTD + gate[0](mix(y)) + gate[1](think(y))
    else:
      add = ORDERS[c.block]
      x_BTD = add(x_BTD, mix, normed("attention"), gate[0])
      x_BTD = add(x_BTD, think, normed("mlp"), gate[1])
    return constrain(x_BTD, "batch", "sequence", "act_embed"), kv

  def _adaln(self, shared_BT6D, is_image_BT):
    offset = param(
      self, "adaln_offset", nn.initializers.zeros_init(),
      (6, self.config.width), (None, "embed"),
    )  # fmt: skip
    m = shared_BT6D + offset.astype(shared_BT6D.dtype)
    m = jnp.where(is_image_BT[..., None, None], m, 0)
    shift, scale, gate = [m[:, :, i : i + 2] for i in (0, 2, 4)]

    def changes(i):
      return lambda x: x * (1 + scale[:, :, i]) + shift[:, :, i]

    def gates(i):
      return lambda x: x * (1 + gate[:, :, i])

    return [changes(0), changes(1)], [gates(0), gates(1)]


class Transformer(nn.Module):
  """All blocks and the final norm: [B, T, D] -> [B, T, D] and new keys and values.

  Without a cache the call holds whole rows, index 0 to T - 1, and their intervals reach
  at most `lookahead` positions past the query.

  Attributes:
    config: shape of the blocks.
    lookahead: see above.
    block: what they are.
    last_eps: of the final norm; 0: as of those of the blocks.
    apart: `block_0`, `block_1`, .. in the place of the scanned `blocks`.
  """

  config: ModelConfig
  lookahead: int
  block: type[Block] = Block
  last_eps: float = 0.0
  apart: bool = False

  @nn.compact
  def __call__(self, x_BTD, inputs: Inputs, cache: Cache | None, modulation):
    c, turn = self.config, None
    if c.positions == "learned":
      x_BTD = x_BTD + self._places(inputs).astype(x_BTD.dtype)
    else:
      turn = self._rotation(inputs)
    x_BTD, name, sees, cached, cache_mask = self._sight(x_BTD, inputs, cache)
    block = self.block
    real = not self.is_initializing()  # shapes may be asked for on any platform
    if real and c.remat == "offload" and logical.platform() == "cpu":
      raise ConfigError(
        "model.remat='offload' moves activations to the memory of the host, and a CPU "
        "has no other: use 'attention', which saves the same"
      )
    if c.remat != "none":
      block = nn.remat(block, policy=REMAT[c.remat], prevent_cse=False)
    x_BTD = constrain(x_BTD, "batch", "sequence", "act_embed")
    sharing, groups = SHARING[c.sharing], None
    if sharing.by_modality:
      groups = modality.sort(jnp.asarray(modality.written(inputs, c.image_mask)))
    if sharing.sorted:
      x_BTD = groups.enter(x_BTD, "act_embed")
      if modulation is not None:
        modulation = (groups.enter(modulation[0], None, None), groups.sorted_image_BT)
    blocks = (self._one_by_one if self.apart else self._scanned)(block, name)
    x_BTD, kv = blocks(x_BTD, cached, turn, sees, cache_mask, modulation, groups)
    eps = self.last_eps or c.norm_eps
    if not sharing.sorted:
      return Norm(eps, kind=c.norm, name="final_norm")(x_BTD), kv
    x_BTD = GroupedNorm(eps, kind=c.norm, name="final_norm")(x_BTD, groups)
    return groups.leave(x_BTD, "act_embed"), kv

  def _rotation(self, inputs: Inputs):
    c = self.config
    turned = round(c.head_dim * c.rope_fraction)
    stretch = c.rope_factor, c.rope_low, c.rope_high, c.rope_length
    about = turned, c.rope_theta, c.positions, stretch, c.rope_sections
    return rope.rotation(inputs.position_BTA, *about)

  def _sight(self, x_BTD, inputs: Inputs, cache: Cache | None):
    """Who sees what: (x_BTD, back end, what rows see of themselves, (keys, values) of
    the cache, and what they see of these); the last two None without one."""
    if cache is None:
      name, sees = "dense", (inputs.start_BT, inputs.end_BT, inputs.hidden_BT)
      # Parameters do not depend on the back end, and their initial row is a dummy.
      if not self.is_initializing():
        hidden = inputs.hidden_BT is not None
        name = pick_backend(self.config, *x_BTD.shape[:2], hidden)
      if name != "dense":  # a row that breaks the kernel's schedule must not pass
        lawful = masks.scheduled(inputs.start_BT, inputs.end_BT, self.lookahead)
        x_BTD = jnp.where(lawful[:, None, None], x_BTD, jnp.nan)
      return x_BTD, name, sees, None, None
    if inputs.hidden_BT is not None:
      raise ValueError("hidden images are of whole rows: a cache holds no such keys")
    sees = masks.allowed(inputs.start_BT, inputs.end_BT, inputs.index_BT)
    slots = jnp.arange(cache.slots, dtype=jnp.int32)
    filled = slots < cache.length_B[:, None]
    # A free slot gets an index that no interval reaches.
    key_index = jnp.where(filled, slots, jnp.iinfo(jnp.int32).max)
    cache_mask = masks.allowed(inputs.start_BT, inputs.end_BT, key_index)
    return x_BTD, "dense", sees, (cache.keys, cache.values), cache_mask

  def _scanned(self, block: type, backend: str):
    """All blocks as one loop over stacked parameters: it compiles as fast as one."""
    c = self.config
    return nn.scan(
      block,
      variable_axes={"params": 0, ROUTING: 0, WEIGHTS: 0},
      split_rngs={"params": True},
      in_axes=(0, *[nn.broadcast] * 5),
      length=c.depth,
      unroll=c.scan_unroll,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, backend, self.lookahead, name="blocks")

  def _one_by_one(self, block: type, backend: str):
    """The same with parameters of their own, of which no loop copies a slice."""
    blocks = [
      block(self.config, backend, self.lookahead, name=f"block_{i}")
      for i in range(self.config.depth)
    ]

    def run(x_BTD, cached, *rest):
      made = []
      for i, one in enumerate(blocks):
        here = cached and tuple(layers[i] for layers in cached)
        x_BTD, kv = one(x_BTD, here, *rest)
        made.append(kv)
      return x_BTD, tuple(zip(*made, strict=True))

    return run

  def _places(self, inputs: Inputs):
    """A vector for each position, of a table (Vaswani et al. 2017, section 3.5)."""
    c, init = self.config, nn.initializers.normal(0.02)
    shape = (c.position_rows, c.width)
    table = param(self, "position", init, shape, (None, "embed"))
    place = inputs.position_BTA[..., 0] + c.position_first
    return jnp.take(table, place, axis=0, mode="clip")  # rows that have ended go on
