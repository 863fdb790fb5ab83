"""What a model does inside, for people who look: which positions attend to which."""

import jax
import numpy as np

from unijax.config import Config
from unijax.nn.attention import WEIGHTS
from unijax.nn.model import make_model
from unijax.types import Batch, Inputs
from unijax.write import make_write_path


def attention_maps(
  config: Config, params, vocab: int, batch: Batch, seed: int = 0
) -> tuple[Inputs, np.ndarray]:
  """Reads packed rows as a training step does, and keeps all attention weights.

  Images are noised, or hidden, as the config trains them; with `data.noise_limit` 0 and
  images that are only read (`context`), nothing is. The whole [T, T] is held for every
  head and layer: a few short rows at a time.

  Args:
    config: of the run.
    params: its weights.
    vocab: ids that the token table holds.
    batch: of the loader.
    seed: of the noise.

  Returns:
    (what the model read, weights float32 [layers, B, heads, T, T]: how much of what the
    query at the first T takes is of the key at the second; those of a query add up to
    1, and padding takes all of itself).
  """
  path = make_write_path(config, vocab)
  model = make_model(config, vocab)

  @jax.jit
  def read(params, batch, key):
    inputs, _ = path.corrupt(key, batch)
    _, kept = model.apply(
      {"params": params}, inputs, method=model.hidden, mutable=[WEIGHTS]
    )
    return inputs, kept[WEIGHTS]["transformer"]["blocks"]["attention"]["weights"][0]

  inputs, weights = jax.device_get(read(params, batch, jax.random.key(seed)))
  return inputs, weights
