"""The frozen form of trained encoders: what an alignment run leaves for others.

  RUN/encoder/encoder.json           the run's config, its step, hash of the weights
  RUN/encoder/weights.safetensors    averaged weights, all of them

`open_encoder` takes the folder, or the directory of the run that has it. Nothing in
here is executed or unpickled.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from unijax.checkpoint import safetensors
from unijax.config import (
  Config,
  ConfigError,
  VisionConfig,
  from_config_dict,
  to_dict,
)
from unijax.nn.vision import VisionTransformer, normalised

FORMAT = 1
FOLDER, ABOUT, WEIGHTS = "encoder", "encoder.json", "weights.safetensors"


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenEncoder:
  """An encoder of pictures that is not trained.

  Inside a compiled function its weights are constants of the program.

  Attributes:
    config, image_size: its shape.
    params: of its VisionTransformer.
    whole: features are those of the class token and registers, too.
  """

  config: VisionConfig
  image_size: int
  params: Any
  whole: bool = False

  def __call__(self, pixels_BHWC) -> jax.Array:
    """uint8 pixels -> features of the patches, float32 [B, P, E]. No gradient."""
    module = VisionTransformer(self.config, self.image_size, whole=self.whole)
    _, features = module.apply({"params": self.params}, normalised(pixels_BHWC))
    return jax.lax.stop_gradient(features).astype(jnp.float32)


def write_encoder(workdir: pathlib.Path, config: Config, params, step: int) -> None:
  """Writes the parameters of an alignment run, all of them, beside its config."""
  folder = workdir / FOLDER
  folder.mkdir(exist_ok=True)
  flat = flax.traverse_util.flatten_dict(jax.device_get(params), sep=".")
  forms = {name: (x.shape, str(x.dtype)) for name, x in flat.items()}
  path = folder / WEIGHTS
  safetensors.write(path, forms, flat.items, {"format": "unijax encoder"})
  content = {
    "format": FORMAT, "config": to_dict(config), "step": step,
    "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
  }  # fmt: skip
  temporary = folder / f"{ABOUT}.tmp"
  temporary.write_text(json.dumps(content, indent=1) + "\n")
  temporary.replace(folder / ABOUT)


def open_encoder(name: str, knob: str = "align.frozen") -> FrozenEncoder:
  """Reads the encoder of pictures of an alignment run: RUN, or RUN/encoder itself.

  Args:
    name: the path.
    knob: that says it, for errors.

  Raises:
    ConfigError: there is none, or it is not the one that was written.
  """
  places = (pathlib.Path(name) / FOLDER, pathlib.Path(name))
  folder = next((p for p in places if (p / ABOUT).is_file()), None)
  if folder is None:
    raise ConfigError(
      f"{knob}: {name!r} holds no trained encoder (no {FOLDER}/{ABOUT}): train "
      f"one with `unijax train --config=configs/clip.py --workdir={name}`, which "
      "writes it at every train.eval_every and at its end"
    )
  try:
    content = json.loads((folder / ABOUT).read_text())
    config = from_config_dict(content["config"])
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    whole = digest == content["weights"] and content["format"] == FORMAT
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ConfigError(f"{knob}: {folder} is damaged ({error}): {_FIX}") from error
  if not whole:
    raise ConfigError(f"{knob}: {folder} has changed since it was written: {_FIX}")
  flat = safetensors.read(folder / WEIGHTS)
  params = flax.traverse_util.unflatten_dict(flat, sep=".")
  if "vision" not in params:
    raise ConfigError(
      f"{knob}: {name!r} has no encoder of pictures of its own; its eyes are "
      f"those of {config.align.frozen!r}"
    )
  return FrozenEncoder(config.vision, config.data.image_size, params["vision"])


_FIX = "copy it again, or let the run write it anew"
