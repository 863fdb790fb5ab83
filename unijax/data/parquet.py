"""Parquet files that hold the pictures themselves, beside their captions.

The picture column is binary, or a struct with a binary field `bytes`, as the `datasets`
library writes it. Captions are read when the source is built, which costs little since
parquet keeps columns apart; pictures are read by row group, and the groups read last
are kept. Random access to large groups is slow: `unijax data prepare` reads in order.
"""

import collections
import dataclasses
import glob
import os
import threading

import numpy as np

from unijax.data import captions, hashing, items
from unijax.data.document import DataError
from unijax.data.images import BadItem


@dataclasses.dataclass(frozen=True)
class ParquetOptions(items.ItemOptions):
  """Which files, and which of their columns make a pair.

  Attributes:
    path: one file, or a pattern with * or ?.
    image_column: holds the encoded pictures.
    caption_column: holds the captions.
    cached_groups: row groups whose pictures are kept in memory.
  """

  path: str = ""
  image_column: str = "image"
  caption_column: str = "caption"
  cached_groups: int = 4

  def __post_init__(self):
    super().__post_init__()
    if self.cached_groups < 1:
      raise DataError(f"cached_groups must be positive, got {self.cached_groups}")


class ParquetSource(items.ItemSource):
  """Captioned pictures inside parquet files; every row is one item."""

  def __init__(self, options: ParquetOptions, name: str = "parquet"):
    self.options, self.name = options, name
    self._paths = sorted(glob.glob(options.path))
    if not self._paths:
      raise DataError(
        f"{name}: no file matches {options.path!r}; set path to a parquet file or to a "
        "pattern as in train-*.parquet"
      )
    self._rows: list[captions.Row] = []
    self._groups: list[tuple[int, int]] = []  # file, row group in it
    starts, content = [0], []
    for number, path in enumerate(self._paths):
      columns = captions.open_parquet(path, (options.caption_column,))
      _check_images(columns, path, options.image_column)
      self._rows += captions.read_column(path, columns, options.caption_column)
      for group in range(columns.metadata.num_row_groups):
        self._groups.append((number, group))
        starts.append(starts[-1] + columns.metadata.row_group(group).num_rows)
      content.append([os.path.basename(path), os.path.getsize(path)])
    self._starts = np.array(starts)
    self._lock = threading.Lock()
    self._kept: collections.OrderedDict[int, list] = collections.OrderedDict()
    content.append(hashing.stable_hash([row.caption for row in self._rows]))
    self._select(len(self._rows), content, check_captions=True)

  def label(self, number: int) -> str:
    """Returns the file and the row in it, from 1."""
    return self._rows[number].place

  def caption(self, number: int) -> str:
    """Returns the caption; raises BadItem if the row has none."""
    row = self._rows[number]
    if row.problem:
      raise row.problem
    return row.caption

  def read(self, number: int) -> bytes:
    """Returns the picture's encoded bytes; raises BadItem."""
    import pyarrow as pa

    group = int(np.searchsorted(self._starts, number, side="right")) - 1
    try:
      content = self._pictures(group)[number - int(self._starts[group])].as_py()
    except (pa.ArrowException, OSError) as error:
      detail = str(error).splitlines()[0]
      raise BadItem(
        self.label(number), "unreadable file", detail, captions.FIX
      ) from error
    if isinstance(content, dict):
      content = content["bytes"]
    if content is None:
      detail = f"{self.options.image_column} is empty"
      raise BadItem(self.label(number), "missing picture", detail, captions.FIX)
    return content

  def _pictures(self, group: int):
    """Returns the picture column of a row group, from memory if it was read lately."""
    import pyarrow.parquet as pq

    with self._lock:
      if group in self._kept:
        self._kept.move_to_end(group)
        return self._kept[group]
      number, inside = self._groups[group]
      with pq.ParquetFile(self._paths[number]) as file:
        table = file.read_row_group(inside, columns=[self.options.image_column])
      self._kept[group] = table.column(0)
      if len(self._kept) > self.options.cached_groups:
        self._kept.popitem(last=False)
      return self._kept[group]

  def __getstate__(self):
    # Every process reads for itself.
    return {**self.__dict__, "_kept": collections.OrderedDict(), "_lock": None}

  def __setstate__(self, state):
    self.__dict__.update(state, _lock=threading.Lock())


def _check_images(file, path: str, column: str) -> None:
  """Raises DataError unless the column holds encoded pictures."""
  import pyarrow as pa

  schema = file.schema_arrow
  if column not in schema.names:
    raise DataError(
      f"{path}: no column {column!r}; it has {', '.join(map(repr, schema.names))}; "
      "set image_column"
    )
  kind = schema.field(column).type
  if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
    kind = kind.field("bytes").type
  if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
    raise DataError(
      f"{path}: column {column!r} is {kind}, and not the bytes of pictures; set "
      "image_column (paths of files are for sources of kind 'folder')"
    )
