"""Trained encoders as files: what an alignment run leaves for others to read with.

A folder with config.json (the run's config) and parameters.safetensors (averaged
weights). `open_encoder` takes the folder, or the directory of the run that has it.
"""

import dataclasses
import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from unijax.checkpoint import rundir, safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.config import Config, VisionConfig, to_dict
from unijax.nn.vision import VisionTransformer, normalised

FOLDER = "encoder"  # in the directory of a run


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenEncoder:
  """An encoder of pictures that is not trained.

  Inside a compiled function its weights are constants of the program.

  Attributes:
    config, image_size: its shape.
    params: of its VisionTransformer.
  """

  config: VisionConfig
  image_size: int
  params: Any

  def __call__(self, pixels_BHWC) -> jax.Array:
    """uint8 pixels -> features of the patches, float32 [B, P, E]. No gradient."""
    module = VisionTransformer(self.config, self.image_size)
    _, features = module.apply({"params": self.params}, normalised(pixels_BHWC))
    return jax.lax.stop_gradient(features).astype(jnp.float32)


def write_encoder(workdir: pathlib.Path, config: Config, params, step: int) -> None:
  """Writes the parameters of an alignment run, all of them, beside its config."""
  folder = workdir / FOLDER
  folder.mkdir(exist_ok=True)
  flat = flax.traverse_util.flatten_dict(jax.device_get(params), sep="/")
  forms = {name: (x.shape, str(x.dtype)) for name, x in flat.items()}
  about = {"step": str(step), "format": "unijax encoder"}
  path = folder / "parameters.safetensors"
  safetensors.write(path, forms, flat.items, about)
  content = {"config": to_dict(config), "step": step}
  (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")


def open_encoder(path: str | pathlib.Path) -> FrozenEncoder:
  """Reads the encoder of pictures of an alignment run.

  Raises:
    CheckpointError: there is none, or it is damaged.
  """
  folder = pathlib.Path(path)
  if (folder / FOLDER).is_dir():
    folder = folder / FOLDER
  file = folder / "parameters.safetensors"
  if not file.is_file():
    raise CheckpointError(
      f"{path} holds no trained encoder (no {FOLDER}/{file.name}): give the directory "
      "of an alignment run; it is written at every train.eval_every and at the end"
    )
  config = rundir.read_config(folder)
  flat = safetensors.read(file)
  params = flax.traverse_util.unflatten_dict(flat, sep="/")
  if "vision" not in params:
    raise CheckpointError(
      f"{path} has no encoder of pictures of its own: align.frozen was "
      f"{config.align.frozen!r} there"
    )
  vision = jax.tree.map(np.asarray, params["vision"])
  return FrozenEncoder(config.vision, config.data.image_size, vision)
