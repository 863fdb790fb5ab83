"""The frozen form of a trained codec: what a run leaves for others to encode with.

  RUN/codec/codec.json           kind and shape, sizes, shift and scale of latents, hash
                                 of the weights, digest of all this
  RUN/codec/weights.safetensors  averaged weights

Latents for others are (z - shift) * scale, so that they have about unit variance.
Nothing in here is executed or unpickled, and reading needs no trainer.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from unijax.errors import ConfigError

FORMAT = 1
FOLDER, ABOUT, WEIGHTS = "codec", "codec.json", "weights.safetensors"


@dataclasses.dataclass(frozen=True)
class About:
  """What codec.json says.

  Attributes:
    codec: what its module is built from, as plain values: `bottleneck`, and what
      `model.Convolutional` or `drawn.Drawn` has.
    stride: pixels a side of a latent.
    channels: numbers a latent.
    codebook: number of codes, 0 where there are none.
    image_size: pixels a side of the pictures it was trained on.
    shift, scale: of latents, each a number or a list of one a channel.
    step: of the run.
    weights: SHA-256 of the file of weights.
  """

  codec: dict[str, Any]
  stride: int
  channels: int
  codebook: int
  image_size: int
  shift: float | list[float]
  scale: float | list[float]
  step: int
  weights: str
  format: int = FORMAT

  def digest(self) -> str:
    """Hash of all of it."""
    text = json.dumps(dataclasses.asdict(self), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

  @property
  def only_size(self) -> int:
    """Pixels a side of all pictures it can read; 0: any multiple of the stride."""
    return self.codec.get("only_size", 0)

  @property
  def draws(self) -> bool:
    """Whether it makes pictures, too."""
    return self.codec.get("draws", True)

  def identity(self) -> dict:
    """What another codec cannot share; for configs that train on its latents."""
    kind = self.codec["bottleneck"]
    names = ("stride", "channels", "codebook", "shift", "scale")
    return {
      "bottleneck": kind, **{n: getattr(self, n) for n in names},
      "digest": self.digest()[:16],
    }  # fmt: skip


def plain(values) -> dict[str, Any]:
  """A section of a config as JSON has it: tuples become lists."""
  entries = dataclasses.asdict(values).items()
  return {k: list(v) if isinstance(v, tuple) else v for k, v in entries}


def section(kind: type, values: Mapping[str, Any]):
  """The inverse of `plain`; raises TypeError for knobs of another version."""
  return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def folder(name: str) -> pathlib.Path:
  """Returns where the artefact of a path is: RUN, or RUN/codec itself.

  Raises:
    ConfigError: there is none.
  """
  path = pathlib.Path(name)
  for place in (path / FOLDER, path):
    if (place / ABOUT).is_file():
      return place
  raise ConfigError(
    f"data.codec: {name!r} holds no trained codec (no {FOLDER}/{ABOUT}): train one "
    f"with `unijax train --config=configs/codecs/kl.py --workdir={name}`, which writes "
    "it at its end, or write that of an unfinished run with `unijax eval --workdir`"
  )


def read(name: str) -> About:
  """Reads codec.json.

  Raises:
    ConfigError: there is none, or it is damaged or of another version.
  """
  path = folder(name) / ABOUT
  stat = path.stat()
  return _read(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(64)  # a config asks for its sizes again and again
def _read(path: pathlib.Path, mtime: int, size: int) -> About:
  try:
    content = json.loads(path.read_text())
    digest = content.pop("digest")
    about = About(**content)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ConfigError(
      f"data.codec: {path} is damaged or of another version "
      f"({type(error).__name__}: {error}): {_FIX}"
    ) from error
  if digest != about.digest() or about.format != FORMAT:
    raise ConfigError(f"data.codec: {path} has changed since it was written: {_FIX}")
  return about


def write_about(path: pathlib.Path, about: About) -> None:
  """Writes codec.json, whole or not at all."""
  content = {**dataclasses.asdict(about), "digest": about.digest()}
  temporary = path / f"{ABOUT}.tmp"
  temporary.write_text(json.dumps(content, indent=1) + "\n")
  temporary.replace(path / ABOUT)


def read_weights(name: str, about: About) -> dict:
  """Reads the weights as a tree of NumPy arrays.

  Raises:
    ConfigError: the file is missing, or not the one that was written.
  """
  path = folder(name) / WEIGHTS
  try:
    content = path.read_bytes()
  except OSError as error:
    raise ConfigError(f"data.codec: {path}: {error.strerror}: {_FIX}") from error
  if hashlib.sha256(content).hexdigest() != about.weights:
    raise ConfigError(f"data.codec: {path} has changed since it was written: {_FIX}")
  length = int.from_bytes(content[:8], "little")
  header, tree = json.loads(content[8 : 8 + length]), {}
  for key, entry in header.items():
    if key == "__metadata__":
      continue
    begin, end = (8 + length + x for x in entry["data_offsets"])
    array = np.frombuffer(content[begin:end], "<f4").reshape(entry["shape"])
    *parents, leaf = key.split(".")
    place = tree
    for parent in parents:
      place = place.setdefault(parent, {})
    place[leaf] = array
  return tree


_FIX = "copy it again, or write it anew with `unijax eval --workdir=RUN`"
