"""Writing the frozen artefact of a codec run; `unijax.codecs.artefact` reads it."""

import hashlib
import pathlib

import jax
import numpy as np

from unijax.checkpoint import safetensors
from unijax.codecs import artefact, frozen
from unijax.codecs.model import Convolutional
from unijax.config import Config
from unijax.train import decoding

MEASURED = 256  # pictures that the scale of latents is measured on, at most


FORMS = {  # by train.task
  "codec": lambda config: Convolutional(config.codec),
  "decoder": lambda config: decoding.form(config).beside(),
}


def weighted(config: Config, params) -> frozen.Weighted:
  """Returns the codec in training as it is measured; latents are as they come."""
  return frozen.Weighted(FORMS[config.train.task](config), params)


def latent_moments(codec: frozen.Weighted, pixels: np.ndarray) -> tuple[float, float]:
  """Returns (mean, standard deviation) of all latents of pictures [n, h, w, 3]."""
  latents = codec.encode(pixels[:MEASURED]).astype(np.float64)
  return float(latents.mean()), float(latents.std())


def write(
  workdir: pathlib.Path, config: Config, params, pixels: np.ndarray | None, step: int
) -> frozen.Weighted:
  """Writes RUN/codec; what stood there before is replaced.

  Args:
    workdir: of the run.
    config: of the run.
    params: weights of the codec, whole on this host.
    pixels: training pictures, uint8 [n, h, w, 3], which shift and scale are measured
      on; None where the config gives them.
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
  codec = weighted(config, params)
  shift, scale = config.codec.shift, config.codec.scale
  if not scale:
    shift, deviation = latent_moments(codec, pixels)
    scale = 1.0 / max(deviation, 1e-6)
  path = folder / artefact.WEIGHTS
  forms = {name: (x.shape, "float32") for name, x in named.items()}
  safetensors.write(path, forms, named.items, {"format": "unijax codec"})
  artefact.write_about(
    folder,
    artefact.About(
      codec=codec.form.plain(),
      stride=codec.stride,
      channels=codec.channels,
      codebook=codec.codebook,
      image_size=config.data.image_size,
      shift=shift,
      scale=scale,
      step=step,
      weights=_hash(path),
    ),
  )
  return frozen.Weighted(codec.form, params, shift, scale)


def _hash(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
