"""The compiled functions of sampling: prefill, decode_text, draw_image.

All of them read a cache of fixed size and fixed chunk sizes, so that no length of a
prompt, a text or a document compiles anything anew; where pictures keep their shape the
chunk sizes are those of powers of two of a picture's positions:

  prefill        runs a chunk of each row (text, clean images) and commits it; it also
                 commits a finished image, so what follows sees the clean picture
  decode_text    writes tokens until every row has begun an image, ended, or used up
                 its allowance; in blocks (`block_text`) where the config says so
  draw_image     takes steps on one image of each row against the cached prefix, which
                 it never writes; begin_image makes what it works on. Both are those of
                 the way the config writes images (`unijax.write`)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unijax.config import Config
from unijax.data.rows import RowBuilder, stack
from unijax.data.tokenizer import Vocabulary
from unijax.infer import text_sampling
from unijax.infer.block_text import block_text
from unijax.nn import masks
from unijax.nn.cache import commit, make_cache
from unijax.nn.model import Model, make_model
from unijax.types import Batch, Cache, Inputs
from unijax.write import make_write_path
from unijax.write.base import Span

TEXT_CHUNK = 32  # positions of a short text that are prefilled together
LONG_CHUNK = 512  # of a long text


def chunk_length(config: Config, features: int | None = None) -> int:
  """Positions of a prefill chunk: one image with BOI and EOI, or a block of text, or
  where no image is written as much text; a multiple of 8.

  Args:
    config: of the run.
    features: positions of an encoded picture; None: the most that there are.
  """
  features = config.features if features is None else features
  image = max(config.image_positions, features) + max(config.frame, 2)
  text = TEXT_CHUNK if config.write.never else config.text_block
  return -(-max(image, text) // 8) * 8


def chunk_lengths(config: Config, features: int | None = None) -> tuple[int, ...]:
  """Sizes of prefill chunks, the least first: that of `chunk_length`, a short one for
  prompts that are words alone, where it is much shorter, and where only text is written
  a long one, since a chunk reads all weights. The longest row of a batch chooses: where
  there are several sizes, a row alone and the row beside others differ by rounding."""
  whole = chunk_length(config, features)
  short = (TEXT_CHUNK,) if whole > 2 * TEXT_CHUNK else ()
  long = config.write.never and not config.native and whole < LONG_CHUNK
  return (*short, whole, *(LONG_CHUNK,) * long)


def branches(config: Config) -> int:
  """Rows that are run for each prompt: with guidance, where images are drawn, another
  without its text, and perhaps one without the pictures that it shows."""
  if not config.draws:
    return 1
  if config.sample.guidance_image != 1.0:
    return 3
  return 2 if config.sample.guidance != 1.0 else 1


class SampleFunctions:
  """The compiled sampling functions of a config.

  Attributes:
    prefill: (params, cache, chunk) -> (cache, logits); the old cache is donated.
    decode_text: (params, cache, logits, ...) -> (cache, logits, tokens); likewise.
    text: what it runs, the model apart.
    begin_image: (caches, keys) -> the state of a drawing.
    draw_image: (params, caches, state, spans, keys, ...) -> state; the old one is
      donated.
    path: the way images are written.
  """

  def __init__(self, config: Config, vocabulary: Vocabulary):
    apart = config.sample.layers_apart
    model = make_model(config, vocabulary.size, apart=apart)
    one_image = make_model(config, vocabulary.size, images=1, apart=apart)
    self.prefill = jax.jit(
      functools.partial(prefill, model, config.model.image_mask), donate_argnums=1
    )
    self.text = (block_text if config.text_block else _next_tokens)(config, vocabulary)
    self.decode_text = jax.jit(functools.partial(self.text, model), donate_argnums=1)
    self.path = make_write_path(config, vocabulary.size)
    self.begin_image = jax.jit(self.path.begin)
    self.draw_image = jax.jit(
      functools.partial(self.path.advance, one_image), donate_argnums=2
    )


def arguments(
  functions: SampleFunctions, config: Config, builder: RowBuilder, params, rows: int,
  slots: int,
) -> dict[str, tuple]:  # fmt: skip
  """Shapes of what sampling gives to each function, by its name.

  Args:
    functions: of the config.
    config: of the run.
    builder: lays out the prompts.
    params: tree of shapes.
    rows: prompts that are decoded together.
    slots: positions of the cache.
  """

  def shape(*sizes, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(sizes, dtype)

  path, V = functions.path, builder.vocabulary.size
  found, cache = {}, jax.eval_shape(lambda: make_cache(config, rows, slots))
  chunk = stack([builder.chunk(None, chunk_length(config))] * rows)
  keys = shape(rows, dtype=jax.eval_shape(jax.random.key, 0).dtype)
  sampling = text_sampling.text_sampling(config.sample)
  given = (shape(rows, config.text_block),) if config.text_block else ()
  if config.draws:
    count = branches(config)
    positions = config.image_positions + 1 + config.framed
    span = Span(shape(rows, positions), shape(rows, positions, 3))
    caches = (cache,) * count
    state = jax.eval_shape(path.begin, caches, keys)
    knobs = jax.eval_shape(lambda: path.knobs(config))
    found["draw_image"] = (
      params, caches, state, (span,) * count, keys, shape(), shape(), knobs,
    )  # fmt: skip
  found |= {
    "prefill": (params, cache, chunk),
    "decode_text": (
      params, cache, shape(rows, V, dtype=jnp.float32), shape(rows), keys, shape(rows),
      shape(rows, dtype=jnp.bool_), shape(), sampling, *given,
    ),
  }  # fmt: skip
  return jax.tree.map(lambda x: shape(*np.shape(x), dtype=x.dtype), found)


def prefill(model: Model, image_mask: str, params, cache: Cache, chunk: Batch):
  """Runs and commits a chunk of each row; positions with segment 0 are padding.

  Returns:
    (cache, logits_BV after each row's last position; arbitrary for an empty row).
  """
  offset = cache.length_B[:, None]
  start, end = masks.intervals(chunk.span_BT, chunk.segment_BT, image_mask)
  index = jnp.arange(chunk.tokens_BT.shape[1], dtype=jnp.int32) + offset
  inputs = Inputs(
    tokens_BT=chunk.tokens_BT,
    patches_BTC=chunk.patches_BTC,
    time_BT=jnp.zeros_like(chunk.image_weight_BT),  # committed images are clean
    span_BT=chunk.span_BT,
    patch_BT=chunk.patch_BT,
    position_BTA=chunk.position_BTA,
    index_BT=index,
    start_BT=jnp.zeros_like(start),
    end_BT=end + offset,
    pixels_BIHWC=chunk.pixels_BIHWC,
    feature_BT=chunk.feature_BT,
    grid_BI2=chunk.grid_BI2,
  )
  count_B = (chunk.segment_BT > 0).sum(axis=1).astype(jnp.int32)

  def run(m: Model):
    h_BTD, kv, _ = m.hidden(inputs, cache)
    last = jnp.maximum(count_B - 1, 0)[:, None, None]
    return m.logits(jnp.take_along_axis(h_BTD, last, axis=1)[:, 0]), kv

  logits, kv = model.apply({"params": params}, method=run)
  return commit(cache, kv, count_B), logits


def _next_tokens(config: Config, vocabulary: Vocabulary):
  """Returns `decode_text` for the vocabulary and the limits of a config."""
  special = vocabulary.special
  begins = () if config.write.never else (special.boi,)
  stops, longest = (special.eos, *config.sample.stops), config.sample.max_text_tokens
  stops += begins
  written = {*np.flatnonzero(vocabulary.words).tolist(), *stops}
  forbidden = tuple(i for i in range(vocabulary.size) if i not in written)
  return functools.partial(decode_text, stops, forbidden, begins, longest)


def decode_text(
  stops: tuple[int, ...], forbidden: tuple[int, ...], begins: tuple[int, ...],
  longest: int,
  model: Model, params, cache: Cache, logits_BV, position_B, keys_B, allowance_B,
  images_B, limit, sampling,
):  # fmt: skip
  """Writes tokens row by row in lock step.

  Every token is fed and committed, a stop token too. Rows end at a stop token, at
  their allowance, or together after `limit` tokens.

  Args:
    position_B: rotary position of the next token.
    allowance_B: tokens each row may still write; 0 leaves a row out.
    images_B: bool, rows that may begin an image.
    limit: int32, tokens of this call, at most `longest`.

  Returns:
    (cache, logits_BV, tokens [B, longest] with -1 where nothing was written).
  """
  B, V = logits_BV.shape
  nothing = jnp.zeros(V, bool)
  banned = nothing.at[jnp.asarray(forbidden, jnp.int32)].set(True)
  no_image = nothing.at[jnp.asarray(begins, jnp.int32)].set(True)

  def step(carry):
    i, cache, logits, tokens, active = carry
    mask = banned | (no_image & ~images_B[:, None])
    keys = jax.vmap(jax.random.fold_in)(keys_B, position_B + i)
    token = text_sampling.sample(
      jnp.where(mask, text_sampling.MASKED, logits), keys, sampling
    )
    tokens = tokens.at[:, i].set(jnp.where(active, token, -1))
    inputs = _one_token(token, position_B + i, cache.length_B)

    def run(m: Model):
      h_BTD, kv, _ = m.hidden(inputs, cache)
      return m.logits(h_BTD[:, 0]), kv

    new_logits, kv = model.apply({"params": params}, method=run)
    cache = commit(cache, kv, active.astype(jnp.int32))
    logits = jnp.where(active[:, None], new_logits, logits)
    active &= ~jnp.isin(token, jnp.asarray(stops)) & (i + 1 < allowance_B)
    return i + 1, cache, logits, tokens, active

  def go_on(carry):
    i, _, _, _, active = carry
    return (i < limit) & active.any()

  tokens = jnp.full((B, longest), -1, jnp.int32)
  carry = (jnp.int32(0), cache, logits_BV, tokens, allowance_B > 0)
  _, cache, logits, tokens, _ = jax.lax.while_loop(go_on, step, carry)
  return cache, logits, tokens


def _one_token(token_B, position_B, index_B) -> Inputs:
  """Inputs of one text token a row, which sees everything before it."""
  outside = jnp.full((token_B.shape[0], 1), -1)
  index = index_B[:, None]
  return Inputs(
    tokens_BT=token_B[:, None],
    patches_BTC=None,
    time_BT=None,
    span_BT=outside,
    patch_BT=outside,
    position_BTA=jnp.repeat(position_B[:, None, None], 3, axis=2),
    index_BT=index,
    start_BT=jnp.zeros_like(index),
    end_BT=index,
  )
