"""Writing text in blocks: hidden tokens are filled in any order, the surest first.

A block of `model.text_block` positions stands behind the cached prefix and sees it and
itself. It begins hidden, but for what a prompt has already put there, and is filled in
`sample.text_steps` steps: all hidden tokens are guessed, and the least confident are
hidden again (LLaDA, Nie et al. 2025, with its semi-autoregressive blocks). A finished
block is committed, and the next begins: so text of any length is written, and streamed.
"""

import dataclasses

import jax
import jax.numpy as jnp

from unijax.config import Config
from unijax.data.tokenizer import Vocabulary
from unijax.infer import text_sampling
from unijax.nn.cache import commit
from unijax.nn.model import Model
from unijax.types import FIRST_BLOCK, Cache, Inputs
from unijax.write.masked import hide_again

AFTER_WORDS = 1e3  # more than log-probabilities differ by


@dataclasses.dataclass(frozen=True)
class BlockText:
  """Writes the text of a config in blocks.

  Attributes:
    size: positions of a block.
    steps: in which a block is filled.
    longest: positions that one call may write, whole blocks.
    vocabulary: of the run; its last id is the mask token.
  """

  size: int
  steps: int
  longest: int
  vocabulary: Vocabulary

  def __call__(
    self, model: Model, params, cache: Cache, logits_BV, position_B, keys_B,
    allowance_B, images_B, limit, sampling, given_BN,
  ):  # fmt: skip
    """Writes blocks row by row in lock step; arguments as `functions.decode_text`.

    A row ends at a stop token, behind which its block is filled with padding, at its
    allowance, or with all others after `limit` positions, both rounded up to blocks.

    Args:
      given_BN: what stands at the start of each row's first block; -1 where nothing.

    Returns:
      (cache, logits_BV, tokens [B, longest]): whole blocks, also what was given in
      them, and padding; -1 where nothing was written.
    """
    N, special = self.size, self.vocabulary.special
    stops = jnp.asarray((special.eos, special.boi))

    def block(carry):
      i, cache, logits, tokens, active, given = carry
      inputs = self.inputs(position_B + i * N, cache.length_B)

      def read(known, function):
        x = inputs.replace(tokens_BT=self.read(known))
        run = lambda m: function(m, *m.hidden(x, cache)[:2])  # noqa: E731
        return model.apply({"params": params}, method=run)

      def step(j, known):
        said = read(known, lambda m, h_BTD, _: m.logits(h_BTD))
        keys = jax.vmap(jax.random.fold_in)(keys_B, position_B + i * N)
        return self.fill(said, known, j, keys, images_B, sampling)

      known = jax.lax.fori_loop(0, self.steps, step, given)
      after, kv = read(known, lambda m, h_BTD, kv: (m.logits(h_BTD[:, -1]), kv))
      cache = commit(cache, kv, N * active.astype(jnp.int32))
      logits = jnp.where(active[:, None], after, logits)
      written = jnp.where(active[:, None], known, -1)
      tokens = jax.lax.dynamic_update_slice(tokens, written, (0, i * N))
      stopped = jnp.isin(known, stops).any(axis=-1)
      active &= ~stopped & ((i + 1) * N < allowance_B)
      return i + 1, cache, logits, tokens, active, jnp.full_like(given, -1)

    def go_on(carry):
      i, _, _, _, active, _ = carry
      return (i * N < limit) & active.any()

    tokens = jnp.full((len(keys_B), self.longest), -1, jnp.int32)
    carry = (jnp.int32(0), cache, logits_BV, tokens, allowance_B > 0, given_BN)
    _, cache, logits, tokens, _, _ = jax.lax.while_loop(go_on, block, carry)
    return cache, logits, tokens

  def read(self, known) -> jax.Array:
    """What the model reads of tokens [B, N]: the mask token where they are unknown."""
    return jnp.where(known < 0, self.vocabulary.size - 1, known)

  def fill(self, logits_BNV, known, step, keys_B, images_B, sampling) -> jax.Array:
    """Guesses all unknown tokens and keeps the most confident of them.

    Confidence is the log-probability at temperature 1. Ends and padding come after all
    words, or texts end too early: they are sure before their place is (Nie et al. 2025
    set the confidence of EOS to 0). As many are hidden again as the steps that are left
    have of the block; at least one is kept. What stands behind a known stop token
    becomes padding.

    Args:
      logits_BNV: at the positions of the block.
      known: int32 [B, N], -1 where unknown.
      step: number of the step.
      keys_B: randomness of each row's block.
      images_B: bool, rows that may begin an image.

    Returns:
      What is known now.
    """
    B, N, V = logits_BNV.shape
    special = self.vocabulary.special
    token = jnp.arange(V)
    allowed = jnp.asarray(self.vocabulary.words)
    allowed |= jnp.isin(token, jnp.asarray((special.eos, special.boi, special.pad)))
    allowed &= (token != special.boi) | images_B[:, None]
    logits = jnp.where(allowed[:, None], logits_BNV, text_sampling.MASKED)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, step)
    keys = jax.vmap(lambda key: jax.random.split(key, N))(keys)
    guess = text_sampling.sample(logits.reshape(-1, V), keys.reshape(-1), sampling)
    guess = guess.reshape(B, N)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    confidence = jnp.take_along_axis(log_p, guess[..., None], axis=-1)[..., 0]
    confidence -= AFTER_WORDS * (guess >= self.vocabulary.text_size)
    unknown = known < 0
    number = N * (self.steps - 1 - step) // self.steps
    again = hide_again(confidence, unknown, number)
    known = jnp.where(again, -1, jnp.where(unknown, guess, known))
    stop = jnp.isin(known, jnp.asarray((special.eos, special.boi)))
    behind = jnp.cumsum(stop, axis=-1) - stop > 0
    return jnp.where(behind, special.pad, known)

  def inputs(self, position_B, index_B) -> Inputs:
    """A block of every row behind its prefix, without tokens."""
    offset = jnp.arange(self.size, dtype=jnp.int32)
    index = index_B[:, None] + offset
    position = position_B[:, None] + offset
    return Inputs(
      tokens_BT=jnp.zeros_like(index),
      patches_BTC=None,
      time_BT=None,
      span_BT=jnp.full_like(index, FIRST_BLOCK),
      patch_BT=jnp.full_like(index, -1),
      position_BTA=jnp.repeat(position[..., None], 3, axis=2),
      index_BT=index,
      start_BT=jnp.zeros_like(index),
      end_BT=jnp.broadcast_to(index[:, -1:], index.shape),
    )


def block_text(config: Config, vocabulary: Vocabulary) -> BlockText:
  """Returns what writes the text of a config."""
  N, s = config.text_block, config.sample
  longest = -(-s.max_text_tokens // N) * N + N  # a prompt may have begun a block
  return BlockText(N, min(s.text_steps, N), longest, vocabulary)
