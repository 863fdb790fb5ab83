"""Choosing the next token: greedy, temperature, top-k, top-p, min-p."""

import flax.struct
import jax
import jax.numpy as jnp

from unijax.config import SampleConfig

MASKED = -1e30


@flax.struct.dataclass
class TextSampling:
  """Scalars, not compiled in: changing them costs no compilation."""

  temperature: jax.Array  # 0 is greedy
  top_k: jax.Array  # int32; 0 keeps all
  top_p: jax.Array  # 1 keeps all
  min_p: jax.Array  # 0 keeps all


def text_sampling(config: SampleConfig) -> TextSampling:
  """Takes the text knobs out of the sample section of a config."""
  return TextSampling(
    jnp.float32(config.temperature), jnp.int32(config.top_k),
    jnp.float32(config.top_p), jnp.float32(config.min_p),
  )  # fmt: skip


def sample(logits_BV, keys_B, s: TextSampling) -> jax.Array:
  """Returns int32 [B]: the next token of each row, drawn with the row's own key.

  The filters act on the distribution at the given temperature; each keeps at least the
  most likely token. top-p: Holtzman et al. 2020; min-p: Nguyen et al. 2024.
  """

  def draw():
    scaled = logits_BV / jnp.maximum(s.temperature, 1e-6)
    kept = keep(jax.nn.log_softmax(scaled, axis=-1), s)
    return jax.vmap(jax.random.categorical)(keys_B, jnp.where(kept, scaled, MASKED))

  greedy = lambda: jnp.argmax(logits_BV, axis=-1)  # noqa: E731
  return jax.lax.cond(s.temperature > 0, draw, greedy).astype(jnp.int32)


def keep(log_p_BV, s: TextSampling) -> jax.Array:
  """Returns bool [B, V]: the tokens that survive all filters."""
  V = log_p_BV.shape[-1]
  order = jnp.argsort(-log_p_BV, axis=-1)
  rank = jnp.argsort(order, axis=-1)
  p = jnp.exp(jnp.take_along_axis(log_p_BV, order, axis=-1))
  before = jnp.cumsum(p, axis=-1) - p  # mass of everything more likely
  in_p = jnp.take_along_axis((before < s.top_p) | (jnp.arange(V) == 0), rank, axis=-1)
  in_k = rank < jnp.where(s.top_k > 0, s.top_k, V)
  enough = log_p_BV >= log_p_BV.max(-1, keepdims=True) + jnp.log(s.min_p)
  return in_p & in_k & enough
