"""Documents as ArrayRecord files: prepared once, read at random by every process.

A prepared folder holds

  documents-00000.array_record ...  one record per document (`record_bytes`), in order
  lengths.npz   of N documents: text_bytes [N] and images [N] int32, group [N] uint64;
                of all M pictures in order: sizes [M, 2] int32, height and width
  info.json     what it was made from, its shards with their hashes, what was left out,
                the hash of lengths.npz, and a digest of all this

Pictures are stored as PNG, so a document reads back exactly as it was written; with
`codec`, what that makes of each picture stands beside it (`latents`). A record
ends in a BLAKE2b digest of its bytes, its number and the source it was made from: a
changed record, or one from another place or folder, is an error and never another
picture, whatever the container finds.
Documents of one group show the same first picture (or say the same, without one) and
always fall on the same side of a split.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import threading

import numpy as np

from unijax.data import hashing, splits
from unijax.data.document import DataError, Document
from unijax.data.images import BadItem
from unijax.data.record_bytes import VERSION, unpack

OPTIONS = "group_size:1"  # every record is a chunk of its own: cheap random access


def shard_name(number: int) -> str:
  """Returns the file name of a shard."""
  return f"documents-{number:05}.array_record"


@dataclasses.dataclass(frozen=True)
class RecordsOptions:
  """Which prepared documents to read.

  Attributes:
    path: the prepared folder.
    image_size: pixels a side that all pictures must have; None takes any.
    split: train, held_out or all.
    held_out: share of the groups held out; a group is what shows the same picture.
    num_documents: the first ones of the split; None is all of them.
  """

  path: str = ""
  image_size: int | None = None
  split: str = "train"
  held_out: float = 0.05
  num_documents: int | None = None

  def __post_init__(self):
    splits.check(self.split, self.held_out)


class RecordsSource:
  """The documents of a prepared folder, exactly as they were written."""

  def __init__(self, options: RecordsOptions, name: str = "records"):
    self.options, self.name = options, name
    info = read_info(options.path)
    self._origin = info["source"]["signature"]
    self._check_sizes(info)
    self._files = [os.path.join(options.path, s["file"]) for s in info["shards"]]
    self._starts = np.cumsum([0] + [s["documents"] for s in info["shards"]])
    self._check_files(info)
    self._numbers = self._split(info)
    wanted = options.num_documents
    if not 0 < (1 if wanted is None else wanted) <= len(self._numbers):
      raise DataError(
        f"{name}: num_documents={wanted}, but the {options.split} split of "
        f"{options.path} has {len(self._numbers)} of {info['documents']} documents "
        f"(held_out={options.held_out})"
      )
    self._numbers = self._numbers[:wanted]
    self.signature = hashing.stable_hash(
      ["records", info["content"], options.split, options.held_out, len(self._numbers)]
    )
    self._open_lock = threading.Lock()
    self._readers: dict[int, object] = {}

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> Document:
    """Returns a document; raises IndexError beyond the end, DataError if damaged."""
    index = range(len(self))[index]
    number = int(self._numbers[index])
    shard = int(np.searchsorted(self._starts, number, side="right")) - 1
    place = number - int(self._starts[shard])
    name = f"{self._files[shard]}, record {place}"
    try:
      (record,) = self._reader(shard).read([place])
    except (RuntimeError, IndexError, ValueError) as error:
      fix = "the file is damaged: prepare the data again"
      raise BadItem(name, "unreadable record", str(error), fix) from error
    return unpack(record, index, name, number, self._origin)

  def __getstate__(self):
    # Open files stay behind: every process opens its own.
    return {**self.__dict__, "_readers": {}, "_open_lock": None}

  def __setstate__(self, state):
    self.__dict__.update(state, _open_lock=threading.Lock())

  def _reader(self, shard: int):
    from array_record.python import array_record_module

    with self._open_lock:
      if shard not in self._readers:
        self._readers[shard] = array_record_module.ArrayRecordReader(
          self._files[shard], "readahead_buffer_size:0,max_parallelism:0"
        )
      return self._readers[shard]

  def _split(self, info: dict) -> np.ndarray:
    """Returns the numbers of the documents of this source's split."""
    split, held_out = self.options.split, self.options.held_out
    if split == "all":
      return np.arange(info["documents"])
    path = pathlib.Path(self.options.path) / "lengths.npz"
    try:
      content = path.read_bytes()
    except OSError as error:
      raise DataError(
        f"{self.name}: {path}: {error}; prepare the data again"
      ) from error
    if hashlib.sha256(content).hexdigest() != info["lengths_sha256"]:
      raise DataError(
        f"{self.name}: {path} has changed since it was written: prepare the data again"
      )
    with np.load(io.BytesIO(content)) as lengths:
      group = lengths["group"]
    return np.flatnonzero((group * 2.0**-64 < held_out) == (split == "held_out"))

  def _check_sizes(self, info: dict) -> None:
    size = self.options.image_size
    other = [s for s in info["image_sizes"] if size and s != [size, size]]
    if other:
      height, width = other[0]
      raise DataError(
        f"{self.name}: {self.options.path} holds pictures of {height}x{width} pixels, "
        f"not {size}x{size}: prepare it again at that size, or set data.image_size"
      )

  def _check_files(self, info: dict) -> None:
    for path, shard in zip(self._files, info["shards"], strict=True):
      size = os.path.getsize(path) if os.path.exists(path) else None
      if size != shard["bytes"]:
        found = "is missing" if size is None else f"has {size} bytes"
        raise DataError(
          f"{self.name}: {path} {found}, expected {shard['bytes']} bytes: copy or "
          "prepare the data again"
        )


def read_info(path: str) -> dict:
  """Returns the info of a prepared folder; raises DataError if it is none."""
  file = pathlib.Path(path) / "info.json"
  try:
    info = json.loads(file.read_text())
    version = info["version"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DataError(
      f"{path!r} holds no prepared data ({type(error).__name__}: {error}); set path to "
      "a folder written by: unijax data prepare"
    ) from error
  if version != VERSION:
    raise DataError(
      f"{path}: prepared in version {version}, this program reads {VERSION}: "
      "prepare the data again"
    )
  if info.get("digest") != info_digest(info):
    raise DataError(
      f"{file} has changed since it was written: copy it or prepare the data again"
    )
  return info


def info_digest(info: dict) -> str:
  """Returns the digest of all that info.json holds besides it."""
  rest = {name: value for name, value in info.items() if name != "digest"}
  return hashing.stable_hash(rest, 32)
