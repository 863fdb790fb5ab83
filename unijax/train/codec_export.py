"""Writing the frozen artefact of a codec run; `unijax.codecs.artefact` reads it."""

import dataclasses
import hashlib
import pathlib

import jax
import numpy as np

from unijax.checkpoint import safetensors
from unijax.codecs import artefact, frozen, model
from unijax.config import Config

MEASURED = 256  # pictures that the scale of latents is measured on, at most


def latent_moments(codec: frozen.Weighted, pixels: np.ndarray) -> tuple[float, float]:
  """Returns (mean, standard deviation) of all latents of pictures [n, h, w, 3]."""
  latents = codec.encode(pixels[:MEASURED]).astype(np.float64)
  return float(latents.mean()), float(latents.std())


def write(
  workdir: pathlib.Path, config: Config, params, pixels: np.ndarray, step: int
) -> frozen.Weighted:
  """Writes RUN/codec; what stood there before is replaced.

  Args:
    workdir: of the run.
    config: of the run.
    params: weights of the autoencoder, whole on this host.
    pixels: training pictures, uint8 [n, h, w, 3], for shift and scale.
    step: that the weights are of.

  Returns:
    The codec as others will open it.
  """
  folder = pathlib.Path(workdir) / artefact.FOLDER
  folder.mkdir(exist_ok=True)
  named = {
    ".".join(str(k.key) for k in path): np.asarray(leaf, np.float32)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  mean, deviation = latent_moments(frozen.Weighted(config.codec, params), pixels)
  shift, scale = mean, 1.0 / max(deviation, 1e-6)
  path = folder / artefact.WEIGHTS
  forms = {name: (x.shape, "float32") for name, x in named.items()}
  safetensors.write(path, forms, named.items, {"format": "unijax codec"})
  artefact.write_about(
    folder,
    artefact.About(
      codec={
        k: list(v) if isinstance(v, tuple) else v
        for k, v in dataclasses.asdict(config.codec).items()
      },
      stride=model.stride(config.codec),
      channels=config.codec.channels,
      codebook=frozen.codebook(config.codec),
      image_size=config.data.image_size,
      shift=shift,
      scale=scale,
      step=step,
      weights=hashlib.sha256(path.read_bytes()).hexdigest(),
    ),
  )
  return frozen.Weighted(config.codec, params, shift, scale)
