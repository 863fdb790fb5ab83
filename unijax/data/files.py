"""A folder of picture files and a table of captions."""

import dataclasses
import hashlib
import os
import pathlib
import stat

from unijax.data import captions, images, items
from unijax.data.document import DataError
from unijax.data.images import BadItem


@dataclasses.dataclass(frozen=True)
class FolderOptions(items.ItemOptions):
  """A folder and its captions.

  Attributes:
    path: the folder.
    captions: a JSON-lines, CSV, TSV or parquet file, relative to the folder.
    image_column: names the pictures' files, relative to the folder.
    caption_column: holds the captions.
  """

  path: str = ""
  captions: str = "captions.jsonl"
  image_column: str = "image"
  caption_column: str = "caption"


class FolderSource(items.ItemSource):
  """Captioned pictures in a folder; every row of the table is one item."""

  def __init__(self, options: FolderOptions, name: str = "folder"):
    folder = pathlib.Path(options.path)
    if not options.path or not folder.is_dir():
      raise DataError(
        f"{name}: no folder {options.path!r}; set path to the folder of pictures"
      )
    self.options, self.name = options, name
    self._folder = folder
    table = folder / options.captions
    rows = captions.read(table, options.image_column, options.caption_column)
    checked = [_checked(row, folder) for row in rows]
    self._rows: list[captions.Row] = [row for row, _ in checked]
    sizes = [size for _, size in checked]
    content = [hashlib.sha256(table.read_bytes()).hexdigest(), sizes]
    self._select(len(self._rows), content, check_captions=True)

  def label(self, number: int) -> str:
    """Returns the table's line and the picture's file."""
    return _label(self._rows[number])

  def key(self, number: int) -> str:
    """Returns the picture's file: its captions all go to the same split."""
    return printable(self._rows[number].file) or self._rows[number].place

  def caption(self, number: int) -> str:
    """Returns the caption; raises BadItem if the row or its file is unusable."""
    row = self._rows[number]
    if row.problem:
      raise row.problem
    return row.caption

  def read(self, number: int) -> bytes:
    """Returns the bytes of the picture's file; raises BadItem."""
    try:
      return (self._folder / self._rows[number].file).read_bytes()
    except OSError as error:
      detail = error.strerror or str(error)
      raise BadItem(
        self.label(number), "unreadable file", detail, captions.FIX
      ) from error


def _label(row: captions.Row) -> str:
  return f"{row.place} {printable(row.file)}".strip()


def _checked(row: captions.Row, folder: pathlib.Path) -> tuple[captions.Row, int]:
  """Returns the row, with a problem if its file cannot be a picture, and its size."""
  if row.problem:
    return row, 0
  try:
    status = os.stat(folder / row.file)
  except (OSError, ValueError):  # ValueError: a null byte in the name
    status = None
  if pathlib.PurePath(row.file).suffix.lower() not in images.SUFFIXES:
    reason, detail = "unknown extension", f"known are {', '.join(images.SUFFIXES)}"
  elif status is None or not stat.S_ISREG(status.st_mode):
    reason, detail = "missing file", printable(str(folder / row.file))
  else:
    return row, status.st_size
  problem = BadItem(_label(row), reason, detail, captions.FIX)
  return dataclasses.replace(row, problem=problem), 0


def printable(text: str) -> str:
  """Returns the text with bytes that are no UTF-8 written as escapes."""
  return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
