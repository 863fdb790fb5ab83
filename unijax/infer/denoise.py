"""Denoising one image of each row against its cached prefix."""

import flax.struct
import jax
import jax.numpy as jnp

from unijax.config import Config, SampleConfig
from unijax.diffusion import guidance, process, samplers
from unijax.nn.model import Model
from unijax.types import Array, Cache, Inputs


@flax.struct.dataclass
class Guidance:
  """Scalars of classifier-free guidance; see `unijax.diffusion.guidance`."""

  scale: Array
  low: Array
  high: Array
  rescale: Array


def make_guidance(config: SampleConfig) -> Guidance:
  """Takes the guidance knobs out of the sample section of a config."""
  return Guidance(
    jnp.float32(config.guidance), jnp.float32(config.guidance_low),
    jnp.float32(config.guidance_high), jnp.float32(config.guidance_rescale),
  )  # fmt: skip


def denoise_image(
  model: Model, config: Config, time_token: int, params, caches: tuple[Cache, ...],
  x_BPC, positions, keys_B, times, first, last, guide: Guidance,
):  # fmt: skip
  """Takes solver steps [first, last) on one image a row; the caches stay as they are.

  Args:
    time_token: id of the token before the patches, where the model uses one.
    caches: (the prefix,) or, for guidance, (the prefix, the prefix without text).
    x_BPC: the image at times[first].
    positions: for each cache, the span's rotary positions [B, T, 3].
    keys_B: randomness of each row's image, for stochastic samplers.
    times: float32 [steps + 1], falling from noise to 0.

  Returns:
    (x_BPC at times[last], the last prediction of the clean image).
  """
  s = config.sample
  branches = len(caches)
  blank, cache = _block(config, time_token, caches, positions)

  def predict(x, t_B):
    x_rows, t_rows = jnp.concatenate([x] * branches), jnp.concatenate([t_B] * branches)
    x0 = _predict_x0(model, config, params, blank, cache, x_rows, t_rows)
    if branches == 2:
      conditional, unconditional = jnp.split(x0, 2)
      x0 = guidance.guide(
        conditional, unconditional, t_B, scale=guide.scale, low=guide.low,
        high=guide.high, rescale=guide.rescale,
      )  # fmt: skip
    return jnp.clip(x0, -s.clip_x0, s.clip_x0) if s.clip_x0 else x0

  def step(i, carry):
    x, _ = carry
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    path = config.diffusion.path
    return samplers.step(s.sampler, path, predict, x, times[i], times[i + 1], noise)

  return jax.lax.fori_loop(first, last, step, (x_BPC, jnp.zeros_like(x_BPC)))


def _block(config: Config, time_token: int, caches, positions) -> tuple[Inputs, Cache]:
  """The image span of every row and branch, without patches and time; its cache."""
  cache = Cache(
    jnp.concatenate([c.keys_NBSGK for c in caches], axis=1),
    jnp.concatenate([c.values_NBSGK for c in caches], axis=1),
    jnp.concatenate([c.length_B for c in caches]),
  )
  rows, T = cache.length_B.shape[0], config.image_positions
  offset = jnp.arange(T, dtype=jnp.int32)
  index = cache.length_B[:, None] + offset
  causal = config.model.image_mask == "causal"
  inputs = Inputs(
    tokens_BT=jnp.full((rows, T), time_token),
    patches_BTC=None,
    time_BT=None,
    span_BT=jnp.zeros((rows, T), jnp.int32),
    patch_BT=jnp.broadcast_to(offset - (T - config.patches), (rows, T)),
    position_BTA=jnp.concatenate(positions),
    index_BT=index,
    start_BT=jnp.zeros_like(index),
    end_BT=index if causal else jnp.broadcast_to(index[:, -1:], index.shape),
  )
  return inputs, cache


def _predict_x0(model, config: Config, params, blank: Inputs, cache, x, t):
  """One forward of the block: x [rows, P, C] at times [rows] -> clean image."""
  before = config.image_positions - config.patches
  inputs = blank.replace(
    patches_BTC=jnp.pad(x, ((0, 0), (before, 0), (0, 0))),
    time_BT=jnp.broadcast_to(t[:, None], blank.tokens_BT.shape),
  )

  def run(m: Model):
    h_BTD, _, context = m.hidden(inputs, cache)
    return m.prediction(h_BTD, inputs, context)[:, before:]

  out = model.apply({"params": params}, method=run)
  d = config.diffusion
  return process.from_kind(d.path, d.predict, out, x, t[:, None])[0]
