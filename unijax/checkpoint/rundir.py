"""What a run directory says about itself: config.json and the tokenizer."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unijax import config as config_lib
from unijax.checkpoint.errors import CheckpointError
from unijax.config import Config
from unijax.disk import write_whole

# Knobs that may change between runs of one directory: they shape no array and no
# batch, only where, how long or how often something is done, or how it is measured.
FREE = (
  "sample.",
  "eval.",
  "checkpoint.",
  "data.threads",
  "train.log_every",
  "train.eval_every",
  "train.sample_every",
  "guard.spike_factor",  # a person turns these when a run goes wrong
  "guard.patience",
  "guard.hang_seconds",
  "guard.hang_exit",
  "track.",
  "mesh.",  # and these when it goes on elsewhere: equal but for rounding
  "model.attention",
  "model.remat",
  "model.scan_unroll",
  "train.micro_batches",
  "train.loss_chunks",
  "vision.remat",
  "text.remat",
)


def write_config(workdir: pathlib.Path, config: Config, extra: dict[str, Any]) -> None:
  """Writes config.json, enough to run again: the resolved config and versions.

  A tokenizer file is copied beside it, so that the run can be moved.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  if config.data.tokenizer != "bytes":
    file = pathlib.Path(config.data.tokenizer)
    (workdir / f"tokenizer{file.suffix}").write_bytes(file.read_bytes())
  content = {"config": config_lib.to_dict(config), **extra}
  write_whole(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def read_config(workdir: str | pathlib.Path) -> Config:
  """Returns the config of a run directory.

  Raises:
    CheckpointError: there is none.
  """
  path = pathlib.Path(workdir) / "config.json"
  try:
    content = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise CheckpointError(
      f"{workdir} holds no run (no config.json): "
      "train one with `unijax train --config=... --workdir=...`"
    ) from error
  except json.JSONDecodeError as error:
    raise CheckpointError(f"{path} is damaged: {error}") from error
  return config_lib.from_config_dict(content["config"])


def config_dict(workdir: str | pathlib.Path) -> ConfigDict:
  """Returns the config of a run directory as config files return theirs.

  Raises:
    CheckpointError: there is none.
  """

  def as_written(value):
    if isinstance(value, Mapping):
      return {name: as_written(entry) for name, entry in value.items()}
    return tuple(map(as_written, value)) if isinstance(value, list) else value

  config = read_config(workdir)
  found = ConfigDict(as_written(config_lib.to_dict(config)))
  found.data.tokenizer = tokenizer_path(workdir, config)
  return found


def tokenizer_path(workdir: str | pathlib.Path, config: Config) -> str:
  """Returns where the run's tokenizer is: its own copy, or 'bytes'."""
  if config.data.tokenizer == "bytes":
    return "bytes"
  return str(
    pathlib.Path(workdir) / f"tokenizer{pathlib.Path(config.data.tokenizer).suffix}"
  )


def check_same_run(workdir: pathlib.Path, config: Config) -> None:
  """Refuses to resume a directory that was trained with another config.

  Raises:
    CheckpointError: showing every knob that differs.
  """
  if not (workdir / "config.json").is_file():
    return
  old, new = (  # as both are read back
    json.loads(json.dumps(config_lib.to_dict(c)))
    for c in (read_config(workdir), config)
  )
  lines = [
    line for line in config_lib.difference(old, new) if not line.startswith(FREE)
  ]
  if lines:
    shown = "\n  ".join(lines)
    raise CheckpointError(
      f"{workdir} was trained with another config (old -> new):\n  {shown}\n"
      "Use another --workdir, or the old values to resume it"
    )


def check_codec(workdir: str | pathlib.Path, codec: Mapping[str, Any]) -> None:
  """Refuses a codec that is not the one a run was trained with.

  Args:
    workdir: a run directory; one that has no config.json yet takes any codec.
    codec: identity of the one that `data.codec` names now.

  Raises:
    CheckpointError: showing what differs.
  """
  path = pathlib.Path(workdir) / "config.json"
  then = json.loads(path.read_text()).get("codec") if path.is_file() else None
  if then is None or then == codec:
    return
  lines = config_lib.difference(then, codec)
  shown = "\n  ".join(f"data.codec, {line}" for line in lines)
  raise CheckpointError(
    f"{workdir} was trained on latents of another codec (then -> now):\n  {shown}\n"
    "Bring the codec back to where data.codec names it, or train another --workdir"
  )


def config_hash(config: Config) -> str:
  """A short hash of every knob that decides a number of the run."""
  lines = _flat("", config_lib.to_dict(config))
  text = "\n".join(line for line in lines if not line.startswith(FREE))
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flat(path: str, value) -> list[str]:
  """One line for every knob, in order of their names."""
  if isinstance(value, Mapping):
    return [x for k in sorted(value) for x in _flat(f"{path}.{k}", value[k])]
  return [f"{path[1:]}: {json.dumps(value)}"]
