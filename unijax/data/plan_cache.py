"""The rows of planned windows on disk: what lets a run go on far ahead at once.

Two numbers and a fingerprint a window (20 bytes) are enough: the rows before a window
give its place, and its documents are measured again when it is read. Lengths are not
kept: they would be a hundred times as much, for one window that takes a moment.

The file is 32 hex digits (BLAKE2b of all that follows), a newline, and an .npz with
`plan` (the hash of the plan it belongs to), `rows`, `used` and `marks`. It is written
whole under another name and renamed; whatever does not match its digest is not looked
at, and windows are planned anew.
"""

import hashlib
import io
import logging
import os
import pathlib
import time

import numpy as np

from unijax.data.plan import Windows
from unijax.disk import write_whole

NAME = "windows.plan"
EVERY = 30.0  # seconds between two writes while windows are being planned
_DIGITS = 32


class PlanCache:
  """The file of planned windows in a folder.

  Args:
    folder: of the run; made when there is something to write.
    plan: hash of the plan; windows of another one are not used.
  """

  def __init__(self, folder: str | os.PathLike, plan: str):
    self.path = pathlib.Path(folder) / NAME
    self.plan = plan
    self._written, self._saved_at = 0, time.monotonic()

  def read(self) -> Windows:
    """Returns the windows on disk, none if there are none that can be used.

    A damaged file, or one of another plan, is named in a warning of one sentence.
    """
    try:
      content = self.path.read_bytes()
    except FileNotFoundError:
      return Windows()
    except OSError as error:
      return self._refused(str(error))
    digest, payload = content[:_DIGITS], content[_DIGITS + 1 :]
    if digest != _digest(payload) or content[_DIGITS : _DIGITS + 1] != b"\n":
      return self._refused("is damaged")
    with np.load(io.BytesIO(payload)) as arrays:
      if str(arrays["plan"]) != self.plan:
        return self._refused("was made for another plan")
      windows = Windows(*(arrays[name].tolist() for name in ("rows", "used", "marks")))
    self._written = len(windows)
    return windows

  def _refused(self, why: str) -> Windows:
    logging.getLogger("unijax").warning(
      "%s %s: the windows before the first row are planned again", self.path, why
    )
    return Windows()

  def forget(self) -> None:
    """Writes all windows next time: not all of those on disk could be used."""
    self._written = 0

  def save(self, windows: Windows, now: bool = False) -> None:
    """Writes the windows if there are new ones and the last write is a while ago.

    Args:
      windows: all planned windows.
      now: write new ones however short ago the last write was.

    A run does not end for want of a cache: a disk that is full is a warning.
    """
    fresh = len(windows) > self._written
    if not fresh or not (now or time.monotonic() - self._saved_at > EVERY):
      return
    buffer = io.BytesIO()
    np.savez(
      buffer,
      plan=np.array(self.plan),
      rows=np.array(windows.rows, np.uint32),
      used=np.array(windows.used, np.int64),
      marks=np.array(windows.marks, np.uint64),
    )
    payload = buffer.getvalue()
    self._saved_at = time.monotonic()
    try:
      write_whole(self.path, _digest(payload) + b"\n" + payload, shared=True)
    except OSError as error:
      logging.getLogger("unijax").warning("%s cannot be written: %s", self.path, error)
      return
    self._written = len(windows)


def _digest(payload: bytes) -> bytes:
  return hashlib.blake2b(payload, digest_size=_DIGITS // 2).hexdigest().encode()
