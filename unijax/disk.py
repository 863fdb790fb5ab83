"""Files that are whole or as they were before, whatever happens while they are written.

They are written beside their place and renamed into it, in one act of the file system.
Where a person says a file is to go is looked at before the work begins.
"""

import contextlib
import os
import pathlib
import threading
from collections.abc import Collection, Iterator

from unijax.errors import ConfigError


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


def sync(path: pathlib.Path) -> None:
  """Waits until a file, or the names in a folder, would survive a power cut."""
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def asked_file(
  path: str | os.PathLike, option: str, name: str, suffixes: Collection[str] = ()
) -> pathlib.Path:
  """Returns the file that an option of a verb asks for; nothing is made yet.

  Args:
    path: as given. A folder, there or said by a slash at its end, takes `name` in it;
      so does a path without a suffix where suffixes are known.
    option: its name, for errors.
    name: of the file in a folder.
    suffixes: one of which the file must have; none: any will do.

  Raises:
    ConfigError: another suffix, or a file where a folder would have to be.
  """
  given, place = os.fspath(path), pathlib.Path(path)
  if place.is_dir() or given.endswith("/") or (suffixes and not place.suffix):
    place = place / name
  if suffixes and place.suffix.lower() not in suffixes:
    raise ConfigError(
      f"{option}={given}: no way to write {place.suffix!r}; end it with "
      f"{', '.join(suffixes)}, or name a folder"
    )
  if place.is_dir():
    raise ConfigError(f"{option}={given}: {place} is a folder; name a file")
  _check_folder(place.parent, option, given)
  return place


def asked_folder(path: str | os.PathLike, option: str) -> pathlib.Path:
  """Returns the folder that an option of a verb asks for; it is not made yet.

  Raises:
    ConfigError: there is a file in its place, or above it.
  """
  _check_folder(pathlib.Path(path), option, os.fspath(path))
  return pathlib.Path(path)


def _check_folder(folder: pathlib.Path, option: str, given: str) -> None:
  """Raises ConfigError where a file stands in the way of a folder."""
  above = next(p for p in (folder, *folder.parents, pathlib.Path("/")) if p.exists())
  if not above.is_dir():
    raise ConfigError(f"{option}={given}: {above} is a file, and no folder")
