"""Named arrays in a directory: the one file that knows Orbax.

Orbax's handlers do the work, without its CheckpointManager: that one commits a step by
itself, before the hashes of its files can be known. The functions of the same use in
`orbax.checkpoint.v1` were renamed within 0.12 and read a small checkpoint in 25 ms
instead of 9; what lies on disk is the same.
"""

import contextlib
import pathlib
from collections.abc import Mapping

import jax
import orbax.checkpoint as ocp


class Arrays:
  """Writes and reads flat dicts of arrays, each array with its own sharding.

  In a run of several processes all of them call every method.
  """

  def __init__(self):
    self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())

  def write(self, folder: pathlib.Path, arrays: Mapping[str, jax.Array]) -> None:
    """Starts writing; returns once the arrays are copied off the device."""
    self._orbax.save(folder, args=ocp.args.PyTreeSave(dict(arrays)))

  def wait(self) -> None:
    """Waits until they are on disk. Raises whatever went wrong."""
    self._orbax.wait_until_finished()

  def read(
    self, folder: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]
  ) -> dict[str, jax.Array]:
    """Reads the named arrays into the shardings of `wanted`; others stay on disk.

    Raises KeyError where one is not there, and whatever Orbax makes of damage.
    """
    if not wanted:
      return {}
    arguments = ocp.checkpoint_utils.construct_restore_args(dict(wanted))
    arguments = ocp.args.PyTreeRestore(dict(wanted), arguments, partial_restore=True)
    arrays = self._orbax.restore(folder, args=arguments)
    # Of what its metadata does not know, partial_restore hands back the request.
    absent = [name for name in wanted if not isinstance(arrays.get(name), jax.Array)]
    if absent:
      raise KeyError(f"{', '.join(absent)} not in {folder.name}/_METADATA")
    return arrays

  def reset(self) -> None:
    """Begins afresh after a write that failed."""
    with contextlib.suppress(Exception):  # it was told already
      self._orbax.close()
    self._orbax = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())

  def close(self) -> None:
    """Releases threads."""
    self._orbax.close()
