"""Checkpoints: the one file that knows Orbax.

A run directory holds `config.json` (the resolved config), `metrics.jsonl` and
`checkpoints/STEP/`. A checkpoint is the whole TrainState; since every batch is a
function of its number, the step in it is also the position in the data.
"""

import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from unijax import config as config_lib
from unijax.config import Config
from unijax.types import TrainState


class CheckpointError(RuntimeError):
  """A run directory or checkpoint cannot be used. Says which, and what to do."""


# Knobs that may change between runs of one directory: they shape no array and no
# batch, only how long, how often or how something is measured.
FREE = (
  "sample.",
  "eval.",
  "data.threads",
  "train.log_every",
  "train.eval_every",
  "train.sample_every",
  "train.checkpoint_every",
  "train.keep_checkpoints",
  "guard.spike_factor",  # a person turns these when a run goes wrong
  "guard.patience",
  "guard.hang_seconds",
  "guard.hang_exit",
)


class Store:
  """Checkpoints of one run directory.

  Args:
    workdir: the run directory; created on the first save.
    keep: number of latest checkpoints to keep.
    read_only: open an existing run only for reading.

  Raises:
    CheckpointError: read_only and the directory holds no run, or it cannot be made.
  """

  def __init__(self, workdir: str | pathlib.Path, keep: int = 2, read_only=False):
    self.workdir = pathlib.Path(workdir).absolute()
    if read_only and not (self.workdir / "config.json").is_file():
      raise CheckpointError(
        f"{workdir} holds no run (no config.json): "
        "train one with `unijax train --config=... --workdir=...`"
      )
    try:
      self.manager = self._manager(keep, read_only)
    except OSError as error:
      raise self._failed("anything", error) from error

  def _manager(self, keep: int, read_only: bool) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
      self.workdir / "checkpoints",
      options=ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        create=not read_only,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        enable_async_checkpointing=not read_only,
      ),
    )

  def steps(self) -> list[int]:
    """Steps that have a complete checkpoint, in order."""
    return sorted(self.manager.all_steps())

  def save(self, state: TrainState, step: int) -> None:
    """Starts writing the state; returns once it is copied, before it is on disk.

    Raises:
      CheckpointError: the disk is full or not writable; earlier steps stay intact.
    """
    try:
      self.manager.save(step, args=ocp.args.StandardSave(state), force=True)
    except (OSError, ValueError) as error:
      raise self._failed(step, error) from error

  def wait(self) -> None:
    """Waits until all that was saved is on disk. Raises as `save` does."""
    try:
      self.manager.wait_until_finished()
    except (OSError, ValueError) as error:
      raise self._failed("the last step", error) from error

  def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
    """Reads a state into the shapes, dtypes and shardings of `abstract`.

    Args:
      abstract: tree of jax.ShapeDtypeStruct.
      step: which; None is the latest.

    Raises:
      CheckpointError: no such checkpoint, or it does not fit `abstract`.
    """
    steps = self.steps()
    if not steps or (step is not None and step not in steps):
      have = f"it has steps {steps}" if steps else "it has none yet"
      wanted = "a checkpoint" if step is None else f"step {step}"
      raise CheckpointError(f"{self.workdir} has not {wanted}: {have}")
    step = steps[-1] if step is None else step
    try:
      return self.manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except Exception as error:
      raise CheckpointError(
        f"checkpoint {self.workdir / 'checkpoints' / str(step)} cannot be read: "
        f"{error}. Remove that directory to use an earlier step of {steps}"
      ) from error

  def close(self) -> None:
    """Waits for writes and releases threads."""
    self.manager.close()

  def _failed(self, step, error) -> CheckpointError:
    return CheckpointError(
      f"could not save {step} under {self.workdir}: {error}. Free some disk space or "
      "choose another --workdir; the run resumes from its last checkpoint"
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
  temporary = workdir / "config.json.tmp"
  temporary.write_text(json.dumps(content, indent=2) + "\n")
  temporary.replace(workdir / "config.json")


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
  old = config_lib.to_dict(read_config(workdir))
  new = json.loads(json.dumps(config_lib.to_dict(config)))  # as it would be read back
  lines = [
    line for line in config_lib.difference(old, new) if not line.startswith(FREE)
  ]
  if lines:
    shown = "\n  ".join(lines)
    raise CheckpointError(
      f"{workdir} was trained with another config (old -> new):\n  {shown}\n"
      "Use another --workdir, or the old values to resume it"
    )


def abstract_state(init) -> TrainState:
  """Shapes, dtypes and placement of the state `init()` returns, without running it."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(init),
  )
