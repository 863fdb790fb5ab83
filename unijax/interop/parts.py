"""What a run keeps apart of a released model: so far, the tokenizer of its pictures."""

import pathlib
import shutil
from collections.abc import Mapping

import jax
import numpy as np

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.fits import shown
from unijax.codecs import artefact
from unijax.config import Config
from unijax.interop import system
from unijax.train import codec_export

ROUNDED = 2.0**-8  # of a number: files of 16 bits are compared with those of 32


def write_codec(folder: pathlib.Path, config: Config, params) -> None:
  """Writes RUN/codec of weights as they are trained."""
  codec_export.write(folder, config, jax.device_get(params["codec"]), None, 0)


def take_codec(
  folder: pathlib.Path, codec: str, leaves: Mapping[str, np.ndarray], sizes=None
) -> None:
  """Copies the codec of another run, which has all that is in the files, and more.

  Released files may lack the half that draws, and be rounded to 16 bits.

  Args:
    folder: of the run that is written.
    codec: path of the other.
    leaves: path -> numbers of the codec in the files.
    sizes: that it must have; None: those of the leaves tell.

  Raises:
    CheckpointError: it is another codec; naming what differs.
    ConfigError: there is none.
  """
  about = artefact.read(codec)
  theirs = system.named({"codec": artefact.read_weights(codec, about)})
  wrong = []
  for path, x in leaves.items():
    y = theirs.get(path)
    if y is None or y.shape != np.shape(x):
      wrong.append(f"{path}: {'not there' if y is None else 'of another shape'}")
    elif not np.allclose(y, x, rtol=ROUNDED, atol=0.0):
      wrong.append(f"{path}: other numbers")
  for name in ("codebook", "stride") if sizes else ():
    if getattr(about, name) != getattr(sizes, name):
      wrong.append(f"{name}: {getattr(about, name)}, not {getattr(sizes, name)}")
  if wrong:
    raise CheckpointError(
      f"--codec={codec} is not the codec of these files:{shown(wrong)}"
    )
  shutil.copytree(artefact.folder(codec), folder / artefact.FOLDER)
