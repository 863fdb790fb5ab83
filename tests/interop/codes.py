"""What comparisons of picture tokenizers share.

Codes must be equal, save where two entries are as near: such ties are counted on both
sides, and cases are chosen that have none.
"""

import numpy as np

from tests.interop import numbers

CLOSE = 1e-5  # of what is compared, below which two distances are one
EPSILON = "unijax.codecs.layers.NORM_EPSILON"


def inputs(height, width, grid, codebook):
  """Two pictures of odd and unequal sides, and a grid of codes of others."""

  def make():
    return {
      "pixels": numbers.picture("pixels", 2, height, width, 3),
      "codes": numbers.whole("codes", codebook, 1, *grid),
    }

  return make


def unit(x):
  """Vectors of length 1 along the last axis."""
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def ties(vectors, book) -> np.ndarray:
  """How many vectors have a second entry about as near as the first: int [1]."""
  z, e = (np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in (vectors, book))
  distance = np.square(z[:, None] - e).sum(-1)
  first, second = np.sort(distance, axis=1)[:, :2].T
  size = np.square(z).sum(-1) + np.square(e).sum(-1)[distance.argmin(1)]
  return np.array([(second - first <= CLOSE * size).sum()])


def ties_of_signs(vectors) -> np.ndarray:
  """How many numbers are about zero: int [1]."""
  z = np.abs(np.asarray(vectors, np.float64))
  return np.array([(z <= CLOSE * z.max()).sum()])


def ours(config, params, inputs):
  """Vectors before they become codes, codes, ties, and pictures drawn from codes."""
  import jax

  from unijax.codecs.model import Autoencoder

  codec = config.codec
  model, weights = Autoencoder(codec), {"params": params["codec"]}

  @jax.jit
  def run(weights, pixels, codes):
    vectors = model.apply(weights, pixels, method=lambda m, x: m.encoder(x))
    found = model.apply(weights, vectors, method=lambda m, z: m.bottleneck.codes(z))
    draw = lambda m, x: m.decode(m.entries(x[..., None]))
    return vectors, found[..., 0], model.apply(weights, codes, method=draw)

  vectors, found, pixels = map(
    np.asarray, run(weights, inputs["pixels"], inputs["codes"])
  )
  if codec.bottleneck == "lfq":
    close = ties_of_signs(vectors)
  else:
    book = np.asarray(params["codec"]["bottleneck"]["quantizer"]["codebook"][0])
    length = unit if codec.cosine else np.asarray
    close = ties(length(vectors), length(book))
  return {"vectors": vectors, "codes": found, "ties": close, "pixels": pixels}
