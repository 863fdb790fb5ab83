"""A folder of picture files and a table of captions."""

import dataclasses
import hashlib
import os
import pathlib

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
    self._rows: list[captions.Row] = list(
      captions.read(table, options.image_column, options.caption_column)
    )
    content = hashlib.sha256(table.read_bytes()).hexdigest()
    self._select(len(self._rows), content, check_captions=True)

  def label(self, number: int) -> str:
    """Returns the table's line and the picture's file."""
    row = self._rows[number]
    return f"{row.place} {printable(row.file)}".strip()

  def key(self, number: int) -> str:
    """Returns the picture's file: its captions all go to the same split."""
    return printable(self._rows[number].file) or self._rows[number].place

  def caption(self, number: int) -> str:
    """Returns the caption; raises BadItem if the row or its file is unusable."""
    row = self._rows[number]
    if row.problem:
      raise row.problem
    if pathlib.PurePath(row.file).suffix.lower() not in images.SUFFIXES:
      detail = f"known are {', '.join(images.SUFFIXES)}"
      raise BadItem(self.label(number), "unknown extension", detail, captions.FIX)
    if not os.path.isfile(self._folder / row.file):
      detail = printable(str(self._folder / row.file))
      raise BadItem(self.label(number), "missing file", detail, captions.FIX)
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


def printable(text: str) -> str:
  """Returns the text with bytes that are no UTF-8 written as escapes."""
  return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
