"""Files and folders that a person asks a verb to write, looked at before it works.

What cannot be written is said at once, not after minutes or hours.
"""

import os
import pathlib
from collections.abc import Collection

from unijax.errors import ConfigError


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
