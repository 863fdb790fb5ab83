"""Codebooks of vectors: one, or several for what the ones before left over.

Entries are trained by gradient, or are running averages of the vectors that chose them
(van den Oord et al. 2017, arXiv 1711.00937, appendix A.1, eq. 6-8):

  N <- decay N + (1 - decay) n        m <- decay m + (1 - decay) s        e = m / N

with n vectors of sum s in the batch. m = e N is not kept: it follows from both. A code
whose N falls below `revive_below` is given the place of a busy code, moved by a draw
with the spread of the vectors that chose that one (splitting, Linde et al. 1980). All
this needs only sums over the batch, so it is exact on any mesh and in any number of
parts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config_parts import CodecConfig

TINY = 1e-6


def straight_through(z, value):
  """`value` whose gradient goes to z as if it were z."""
  return z + jax.lax.stop_gradient(value - z)


def normalised(x):
  """Vectors of length 1."""
  return x * jax.lax.rsqrt((x * x).sum(axis=-1, keepdims=True) + TINY**2)


def nearest(vectors_NC, codebook_KC) -> jax.Array:
  """Index of the closest entry by squared distance: int32 [N]."""
  distance = (codebook_KC**2).sum(axis=-1) - 2.0 * vectors_NC @ codebook_KC.T
  return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def counted(config: CodecConfig) -> bool:
  """Whether uses of entries are kept: averages and revival need them."""
  return config.codebook_update == "average" or config.revive_below > 0


class VectorQuantizer(nn.Module):
  """Q codebooks of K entries; level q sees what levels before it left over.

  Where vectors have length 1 (`codec.cosine`), entries are read at length 1 too,
  whatever length they are kept at (Yu et al. 2022, arXiv 2110.04627, section 3.2).
  """

  config: CodecConfig
  depth: int  # Q

  def setup(self):
    c = self.config
    shape = (self.depth, c.codebook, c.channels)
    init = nn.initializers.normal(c.channels**-0.5)
    self.codebook = self.param("codebook", self._initial(init), shape, jnp.float32)
    if counted(c):
      ones = nn.initializers.ones_init()
      self.uses = self.param("uses", ones, shape[:2], jnp.float32)

  def _initial(self, init):
    if not self.config.cosine:
      return init
    return lambda *args: normalised(init(*args))

  def __call__(self, z_BHWC):
    """Quantizes.

    Returns:
      (latents with straight-through gradient, codes int32 [B, H, W, Q], loss float32
      [B], statistics: name -> (sums, counts)).
    """
    c = self.config
    z = self._vectors(z_BHWC)
    rest, total, loss = z, jnp.zeros_like(z), 0.0
    codes, sums, counts, spread = [], [], [], []
    for q in range(self.depth):
      entry, code = self._level(rest, q)
      fixed = jax.lax.stop_gradient(entry)
      loss += c.commitment * _mean(rest - fixed)
      if c.codebook_update == "gradient":
        loss += _mean(jax.lax.stop_gradient(rest) - entry)
      flat = jax.lax.stop_gradient(rest).reshape(-1, c.channels)
      index = code.reshape(-1)
      error = jnp.square(flat - fixed.reshape(flat.shape)).mean(axis=-1)
      add = lambda x, i=index: jax.ops.segment_sum(x, i, c.codebook)  # noqa: E731
      sums.append(add(flat))
      counts.append(add(jnp.ones_like(error)))
      spread.append(add(error))
      codes.append(code)
      total, rest = total + fixed, rest - fixed
    counts_QK = jnp.stack(counts)
    statistics = {
      "assigned": (jnp.stack(sums), counts_QK[..., None]),
      "spread": (jnp.stack(spread), counts_QK),
    }
    return straight_through(z, total), jnp.stack(codes, axis=-1), loss, statistics

  def codes(self, z_BHWC):
    """Vectors -> int32 [B, H, W, Q]."""
    rest, found = self._vectors(z_BHWC), []
    for q in range(self.depth):
      entry, code = self._level(rest, q)
      rest = rest - entry
      found.append(code)
    return jnp.stack(found, axis=-1)

  def entries(self, codes_BHWQ):
    """Sum of the entries of the codes of each place."""
    levels = range(self.depth)
    return sum(jnp.take(self._book(q), codes_BHWQ[..., q], axis=0) for q in levels)

  def _book(self, q: int):
    book_KC = self.codebook[q]
    return normalised(book_KC) if self.config.cosine else book_KC

  def _vectors(self, z_BHWC):
    z = z_BHWC.astype(jnp.float32)
    return normalised(z) if self.config.cosine else z

  def _level(self, rest, q: int):
    book = self._book(q)
    code = nearest(rest.reshape(-1, rest.shape[-1]), book)
    entry = jnp.take(book, code, axis=0).reshape(rest.shape)
    return entry, code.reshape(rest.shape[:-1])

  @staticmethod
  def update(config: CodecConfig, params, statistics, key: jax.Array):
    """Averages the entries if they are averages, and revives dead codes.

    Args:
      config: of the codec.
      params: `codebook` [Q, K, C] and, where they are counted, `uses` [Q, K].
      statistics: sums over the whole batch, as `__call__` gives them.
      key: of the draws.
    """
    sums_QKC, counts = statistics["assigned"]
    counts_QK, (spread_QK, _) = counts[..., 0], statistics["spread"]
    if not counted(config):
      book = params["codebook"]
      return {**params, "codebook": normalised(book) if config.cosine else book}
    decay, entries, uses = config.codebook_decay, params["codebook"], params["uses"]
    new_uses = decay * uses + (1.0 - decay) * counts_QK
    if config.codebook_update == "average":
      total = decay * entries * uses[..., None] + (1.0 - decay) * sums_QKC
      entries = total / jnp.maximum(new_uses, TINY)[..., None]
    if config.revive_below > 0:
      entries, new_uses = _revive(config, entries, new_uses, counts_QK, spread_QK, key)
    if config.cosine:
      entries = normalised(entries)
    return {**params, "codebook": entries, "uses": new_uses}


def _revive(config: CodecConfig, entries, uses, counts_QK, spread_QK, key):
  """Puts dead codes beside busy ones, chosen in proportion to the batch's counts."""
  Q, K, C = entries.shape
  parent_key, noise_key = jax.random.split(key)
  parent = jax.random.categorical(
    parent_key, jnp.log(counts_QK + TINY)[:, None, :], axis=-1, shape=(Q, K)
  )
  variance = spread_QK / jnp.maximum(counts_QK, 1.0)
  take = jax.vmap(lambda x, i: jnp.take(x, i, axis=0))
  child = (
    take(entries, parent)
    + jax.random.normal(noise_key, (Q, K, C))
    * jnp.sqrt(take(variance, parent))[..., None]
  )
  dead = uses < config.revive_below
  mean = jnp.maximum(uses.mean(axis=1, keepdims=True), config.revive_below)
  return jnp.where(dead[..., None], child, entries), jnp.where(dead, mean, uses)


def _mean(difference_BHWC):
  """Mean square of each picture: float32 [B]."""
  squares = jnp.square(difference_BHWC)
  return squares.reshape(squares.shape[0], -1).mean(axis=1)
