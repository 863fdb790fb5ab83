"""What can go wrong with checkpoints."""


class CheckpointError(RuntimeError):
  """A run directory or checkpoint cannot be used. Says which, and what to do."""

  exit_code = 2


class DamagedError(CheckpointError):
  """Every checkpoint of a run is damaged, or one that was to be verified."""

  exit_code = 3


class Damage(Exception):
  """A checkpoint is not what was saved. The message names the file or leaf."""
