"""Tar files in the webdataset layout, with random access through an index of offsets.

Files of one sample share the name up to the first dot: `0001.jpg` with `0001.txt`, or
with `0001.json` that has the caption under a key. The tars are read once, header by
header, to build the index; with `index` set it is kept in that folder for next time.
"""

import dataclasses
import glob
import json
import os
import pathlib
import re
import tarfile

from unijax.data import hashing, images, items
from unijax.data.document import DataError
from unijax.data.images import BadItem
from unijax.disk import write_whole

_FIX = "write the tar again, or leave such items out with on_error='skip'"


@dataclasses.dataclass(frozen=True)
class WebdatasetOptions(items.ItemOptions):
  """Which tars, and where the captions are.

  Attributes:
    path: one tar, a pattern with * or ?, or with a range as in shard-{000..127}.tar.
    caption: extension of the member that holds the caption: txt, or json.
    caption_key: the key in it, for json.
    index: folder that keeps the index between runs; None builds it each time.
  """

  path: str = ""
  caption: str = "txt"
  caption_key: str = "caption"
  index: str | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.caption not in ("txt", "json"):
      raise DataError(f"webdataset: caption must be txt or json, got {self.caption!r}")


class WebdatasetSource(items.ItemSource):
  """Captioned pictures in tar files; every key of every tar is one item."""

  def __init__(self, options: WebdatasetOptions, name: str = "webdataset"):
    tars = expand(options.path)
    if not tars:
      raise DataError(
        f"{name}: no tar file matches {options.path!r}; set path to a tar, a pattern "
        "as in shard-*.tar, or a range as in shard-{000..127}.tar"
      )
    self.options, self.name = options, name
    self._samples: list[tuple[str, str, dict]] = []  # tar, label, sample of the index
    content = []
    for tar in tars:
      base, index = os.path.basename(tar), _index(tar, options)
      content.append([base, index["bytes"], hashing.stable_hash(index["samples"])])
      for key, sample in index["samples"].items():
        self._samples.append((tar, f"{base}/{key}", sample))
      if index["problem"]:
        if options.on_error == "fail":
          raise DataError(f"{name}: {tar}: {index['problem']}; {_FIX}")
        self._samples.append((tar, base, {"problem": index["problem"]}))
    self._select(len(self._samples), content, check_captions=True)

  def label(self, number: int) -> str:
    """Returns the tar and the key in it."""
    return self._samples[number][1]

  def caption(self, number: int) -> str:
    """Returns the caption; raises BadItem if the sample lacks it or its picture."""
    _, label, sample = self._samples[number]
    return _caption(label, sample, self.options)

  def read(self, number: int) -> bytes:
    """Returns the bytes of the picture's member; raises BadItem."""
    tar, label, sample = self._samples[number]
    offset, size = sample["image"]
    try:
      with open(tar, "rb", buffering=0) as file:
        content = os.pread(file.fileno(), size, offset)
    except OSError as error:
      detail = error.strerror or str(error)
      raise BadItem(label, "unreadable file", detail, _FIX) from error
    if len(content) != size:
      raise BadItem(label, "broken tar", "it ends too early", _FIX)
    return content


def expand(pattern: str) -> list[str]:
  """Returns the tars that a pattern with *, ? or one {first..last} range names, sorted.

  Every file of a range is named, so that a missing one is an error and not a gap.
  """
  found = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", pattern)
  if not found:
    return sorted(glob.glob(pattern))
  before, first, last, after = found.groups()
  width = len(first)
  numbers = range(int(first), int(last) + 1)
  paths = [f"{before}{number:0{width}}{after}" for number in numbers]
  missing = [path for path in paths if not os.path.exists(path)]
  if missing:
    raise DataError(
      f"{pattern}: {len(missing)} of {len(paths)} files are missing, first {missing[0]}"
    )
  return paths


def _caption(label: str, sample: dict, options: WebdatasetOptions) -> str:
  """Returns the caption of one sample of the index; raises BadItem."""
  if "problem" in sample:
    raise BadItem(label, "broken tar", sample["problem"], _FIX)
  if "image" not in sample:
    detail = f"no member with one of {', '.join(images.SUFFIXES)}"
    raise BadItem(label, "missing picture", detail, _FIX)
  text = sample.get("text")
  if text is None:
    detail = f"no member .{options.caption} (it has {', '.join(sample['members'])})"
    raise BadItem(label, "missing caption", detail, _FIX)
  if options.caption == "txt":
    return text.strip()
  try:
    text = json.loads(text)[options.caption_key]
  except (ValueError, TypeError, KeyError, IndexError) as error:
    detail = f"no key {options.caption_key!r} ({type(error).__name__}: {error})"
    raise BadItem(label, "missing caption", detail, _FIX) from error
  if not isinstance(text, str):
    raise BadItem(label, "missing caption", f"{options.caption_key} is no text", _FIX)
  return text.strip()


def _index(tar: str, options: WebdatasetOptions) -> dict:
  """Returns the index of one tar, from the kept one if it is still true."""
  stat = os.stat(tar)
  now = {
    "bytes": stat.st_size,
    "modified": stat.st_mtime_ns,
    "caption": options.caption,
  }
  if options.index is None:
    return {**now, **_read_index(tar, options.caption)}
  name = f"{os.path.basename(tar)}-{hashing.stable_hash([os.path.abspath(tar)])}.json"
  kept = pathlib.Path(options.index) / name
  try:
    index = json.loads(kept.read_text())
    if all(index.get(key) == value for key, value in now.items()):
      return index
  except (OSError, ValueError):
    pass  # not kept yet, or cut off: read the tar
  index = {**now, **_read_index(tar, options.caption)}
  write_whole(kept, json.dumps(index), shared=True)
  return index


def _read_index(tar: str, caption: str) -> dict:
  """Returns {"samples": {key: {image, text, members}}, "problem": str or None}."""
  samples: dict[str, dict] = {}
  problem = None
  size = os.path.getsize(tar)
  try:
    with tarfile.open(tar, "r:") as file:
      for member in file:
        if not member.isfile():
          continue
        if member.offset_data + member.size > size:
          raise tarfile.ReadError(f"it ends inside {member.name}")
        folder, base = os.path.split(member.name)
        stem, _, extension = base.partition(".")
        sample = samples.setdefault(os.path.join(folder, stem), {"members": []})
        sample["members"].append(f".{extension}")
        if f".{extension.lower()}" in images.SUFFIXES:
          sample.setdefault("image", (member.offset_data, member.size))
        elif extension == caption:
          content = file.extractfile(member).read()
          sample["text"] = content.decode("utf-8", errors="surrogateescape")
  except (tarfile.TarError, OSError, EOFError) as error:
    problem = f"no complete uncompressed tar ({error})"
  return {"samples": samples, "problem": problem}
