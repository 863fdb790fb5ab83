"""Files and folders that are whole or as before, whatever happens on the way.

They are written beside their place and renamed into it, in one act of the file system.
"""

import contextlib
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(
  path: pathlib.Path, *, shared: bool = False, lasting: bool = False
) -> Iterator[pathlib.Path]:
  """Yields a place to write to, which then takes the name of `path`.

  Args:
    path: the file; its folder is made.
    shared: other processes or threads may write it at the same time: the last one wins.
    lasting: the content is on disk before the name is, so that a power cut does not
      leave an empty file.

  An error leaves the file as it was, and nothing beside it.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  name = f"{path.name}.tmp"
  if shared:
    who = f"{os.uname().nodename}-{os.getpid()}-{threading.get_ident()}"
    name = f"{path.name}.{who}.tmp"
  temporary = path.with_name(name)
  try:
    yield temporary
    if lasting:
      sync(temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, content: bytes | str, **how: bool) -> None:
  """Writes all of a file; `how` is as for `replaced`."""
  data = content.encode() if isinstance(content, str) else content
  with replaced(path, **how) as temporary:
    temporary.write_bytes(data)


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder that takes the name of `path` once all is in it.

  An error leaves nothing.

  Raises:
    FileExistsError: something of this name is there.
  """
  if path.exists():
    raise FileExistsError(f"{path} is there already: name another, or remove it")
  temporary = path.with_name(f"{path.name}.tmp")
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.mkdir(parents=True)
  try:
    yield temporary
    temporary.rename(path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def sync(path: pathlib.Path) -> None:
  """Waits until a file, or the names in a folder, would survive a power cut."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
