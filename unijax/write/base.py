"""What every way to write images says: what it trains, and how it draws.

In training: `corrupt` turns a batch into what the model reads, `heads` runs the model,
`asks` says which tokens its logits are asked for, and `image_loss` sums the loss of
images. In sampling: `begin` makes the state of a drawing, `advance` takes some of its
`steps`, and `image` reads the finished image from it. A way sees only the image of each
row and the cache of what stands before it; the caller commits what was drawn.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from unijax.code_ids import CodeIds
from unijax.config import Config
from unijax.nn import masks
from unijax.nn.model import Model
from unijax.types import Array, Batch, Cache, Inputs, Sum
from unijax.write import losses
from unijax.write.losses import Ask, TokenSums


class ImageLoss(NamedTuple):
  """The loss of images, and what is reported of it."""

  loss: Sum
  metrics: dict[str, Sum]


@flax.struct.dataclass
class Span:
  """The place of one image in each row: BOI, its time token if any, its patches; EOI
  too, where it belongs to the image."""

  tokens_BT: Array  # [B, 1 + image positions (+ 1)]
  position_BTA: Array


@flax.struct.dataclass
class Knobs:
  """Of drawing: not compiled in, so that changing them costs no compilation."""

  guidance: Array
  guidance_low: Array
  guidance_high: Array
  guidance_rescale: Array
  guidance_image: Array
  guidance_renorm_min: Array
  temperature: Array
  top_k: Array  # int32
  confidence_noise: Array
  times: Array  # float32 [steps + 1], falling from noise to 0; [1] where none are used


class WritePath:
  """One way to write images; the values of `unijax.write.WRITE_PATHS` derive from it.

  Args:
    config: of the run.
    vocab: ids that the token table holds; image codes are the last of them, if
      data.code_ids does not list others.
  """

  metric: str  # name of the image loss among the metrics

  def __init__(self, config: Config, vocab: int):
    self.config = config
    self.mask_token = vocab - 1  # where the way has one
    first = vocab - config.codebook - config.write.masks
    self.code_ids = CodeIds(first, config.codebook, config.data.code_ids)

  # -- training ----------------------------------------------------------------------

  def corrupt(self, key: jax.Array, batch: Batch) -> tuple[Inputs, Any]:
    """Returns (what the model reads, what else the loss needs to know)."""
    del key
    return row_inputs(self.config, batch, batch.tokens_BT, batch.patches_BTC), None

  def heads(self, model: Model, inputs: Inputs, truth) -> tuple[jax.Array, Any]:
    """Runs the bound model: (h_BTD, the output of its image head if any)."""
    del truth
    return model.hidden(inputs)[0], None

  def asks(self, batch: Batch, truth) -> dict[str, Ask]:
    """Which tokens are asked of the logits: 'text' always, 'image' for codes."""
    del truth
    return {"text": losses.next_token(batch, batch.text_weight_BT)}

  def image_loss(
    self, output, sums: dict[str, TokenSums], inputs: Inputs, truth, batch: Batch
  ) -> ImageLoss:
    """The loss of images. Its weight is all of the batch's `image_weight_BT`."""
    raise NotImplementedError

  # -- sampling ----------------------------------------------------------------------

  @property
  def steps(self) -> int:
    """Steps that a drawing takes."""
    return self.config.sample.steps

  @property
  def stride(self) -> int:
    """Steps between two looks at an unfinished image."""
    return 2

  def times(self, config: Config) -> jax.Array:
    """Timesteps that a solver visits: float32 [steps + 1]; a single 0 without one."""
    del config
    return jnp.zeros(1)

  def knobs(self, config: Config) -> Knobs:
    """Takes the knobs of drawing out of a config, which may differ from the run's."""
    s = config.sample
    return Knobs(
      jnp.float32(s.guidance), jnp.float32(s.guidance_low),
      jnp.float32(s.guidance_high), jnp.float32(s.guidance_rescale),
      jnp.float32(s.guidance_image), jnp.float32(s.guidance_renorm_min),
      jnp.float32(s.image_temperature), jnp.int32(s.image_top_k),
      jnp.float32(s.confidence_noise), self.times(config),
    )  # fmt: skip

  def begin(self, caches: tuple[Cache, ...], keys_B):
    """Returns the state of a drawing that has not begun. The caches stay as they are.

    Args:
      caches: (the prefix,) or, for guidance, (the prefix, the prefix without text),
        perhaps with that without the pictures shown; all ending with BOI.
      keys_B: randomness of each row's image.
    """
    raise NotImplementedError

  def advance(
    self, model: Model, params, caches: tuple[Cache, ...], state,
    spans: tuple[Span, ...], keys_B, first, last, knobs: Knobs,
  ):  # fmt: skip
    """Takes steps [first, last): the new state. `spans` has one entry a cache."""
    raise NotImplementedError

  def image(self, state) -> jax.Array:
    """The finished image: patches [B, P, C], or int32 codes [B, P]."""
    return state[0]

  def look(self, state) -> jax.Array:
    """The image as far as it is known, for people to look at; as `image`."""
    return state[1]


def row_inputs(config: Config, batch: Batch, tokens_BT, patches_BTC, time_BT=None):
  """What the model reads of whole rows."""
  start, end = masks.intervals(batch.span_BT, batch.segment_BT, config.model.image_mask)
  index = jnp.broadcast_to(
    jnp.arange(tokens_BT.shape[1], dtype=jnp.int32), tokens_BT.shape
  )
  return Inputs(
    tokens_BT=tokens_BT,
    patches_BTC=patches_BTC,
    time_BT=time_BT,
    span_BT=batch.span_BT,
    patch_BT=batch.patch_BT,
    position_BTA=batch.position_BTA,
    index_BT=index,
    start_BT=start,
    end_BT=end,
    hidden_BT=masks.hidden_spans(batch.span_BT, batch.hidden_BT),
    pixels_BIHWC=batch.pixels_BIHWC,
    feature_BT=batch.feature_BT,
    grid_BI2=batch.grid_BI2,
  )


def join(caches: tuple[Cache, ...], again: int = 0) -> Cache:
  """The branches of guidance as more rows of one cache; its last positions, `again` of
  them, are left out, to be read again."""
  length_B = jnp.concatenate([c.length_B for c in caches])
  rows = lambda *parts: jnp.concatenate(parts, axis=-4)  # noqa: E731
  kv = jax.tree.map(rows, *(c.kv for c in caches))
  return caches[0].with_kv(kv, jnp.maximum(length_B - again, 0))


def block(config: Config, spans: tuple[Span, ...], cache: Cache) -> Inputs:
  """The image of every row and branch after its prefix; tokens only.

  BOI is left out, save where it belongs to the image.
  """
  framed = int(config.framed)
  here = slice(1 - config.owns_boi, None)
  tokens = jnp.concatenate([s.tokens_BT[:, here] for s in spans])
  T = tokens.shape[1]
  offset = jnp.arange(T, dtype=jnp.int32)
  index = cache.length_B[:, None] + offset
  causal = config.model.image_mask == "causal"
  patch = offset - (T - framed - config.patches)
  patch = jnp.where(patch < config.patches, patch, -1)
  return Inputs(
    tokens_BT=tokens,
    patches_BTC=None,
    time_BT=None,
    span_BT=jnp.zeros_like(tokens),
    patch_BT=jnp.broadcast_to(patch, tokens.shape),
    position_BTA=jnp.concatenate([s.position_BTA[:, here] for s in spans]),
    index_BT=index,
    start_BT=jnp.zeros_like(index),
    end_BT=index if causal else jnp.broadcast_to(index[:, -1:], index.shape),
  )


def image_keys(key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
  """Keys of (the image, the patch) at every position, the same in any packing."""

  def one(image_key, patch):
    image = jax.random.fold_in(key, image_key)
    return image, jax.random.fold_in(image, patch + 1)

  return jax.vmap(jax.vmap(one))(batch.image_key_BT, batch.patch_BT)


def each_position(draw, keys_BT):
  """Applies `draw(key)` at every position."""
  return jax.vmap(jax.vmap(draw))(keys_BT)


def uniform(key: jax.Array) -> jax.Array:
  """One number in (0, 1)."""
  return jax.random.uniform(key, (), minval=1e-6, maxval=1.0)
