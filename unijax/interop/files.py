"""Weights as they are published: files .safetensors, alone or in numbered parts.

Only headers are read on opening; numbers are read one array at a time. Everything in
them is distrusted: sizes, places, names of other files. Nothing is ever unpickled.

The format: https://github.com/huggingface/safetensors#format. An index of several
files is JSON with `weight_map`: {name: file beside it}.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.safetensors import TYPES

INDEX = ".safetensors.index.json"
ONE = ("model", "diffusion_pytorch_model")  # names of the only file, or of the index
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LONGEST_HEADER = 100_000_000  # bytes, as the format says
LONGEST_AXIS = 2**40
BITS = {code: np.dtype(getattr(ml_dtypes, n, n)) for n, code in TYPES.items()}


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array of a file: its form, and where its bytes are."""

  path: pathlib.Path
  shape: tuple[int, ...]
  dtype: np.dtype
  begin: int

  def read(self) -> np.ndarray:
    """The array as a read-only view of the file, let go with the last reference.

    Raises:
      CheckpointError: the file is not as long as it was.
    """
    count = math.prod(self.shape) * self.dtype.itemsize
    if not count:
      return np.zeros(self.shape, self.dtype)
    try:
      raw = np.memmap(self.path, np.uint8, "r", self.begin, (count,))
    except (OSError, ValueError) as error:
      raise CheckpointError(
        f"{self.path} cannot be read, or has changed since its header was: {error}"
      ) from error
    return np.asarray(raw).view(self.dtype).reshape(self.shape)


def open_weights(path: str | pathlib.Path) -> dict[str, Entry]:
  """Reads the headers of a published model: name -> entry.

  Args:
    path: a file .safetensors, an index, or a folder that holds one of them.

  Raises:
    CheckpointError: nothing to read there, a pickle, a file that is missing, cut off
      or damaged, an index that disagrees with its files or points elsewhere.
  """
  path = find(pathlib.Path(path))
  return _read_index(path) if path.name.endswith(".json") else read_header(path)


def find(path: pathlib.Path) -> pathlib.Path:
  """Returns the file or index that a path means; see `open_weights` for what it raises.

  Where a folder has files in several precisions, the one without a suffix is meant.
  """
  if path.is_file():
    if path.suffix in PICKLES:
      raise CheckpointError(_pickled(path))
    if not (path.suffix == ".safetensors" or path.name.endswith(INDEX)):
      raise CheckpointError(
        f"{path}: neither .safetensors nor {INDEX}: name the weights, or their folder"
      )
    return path
  if not path.is_dir():
    raise CheckpointError(f"{path}: no such file or folder")
  for name in ONE:
    for ending in (INDEX, ".safetensors"):
      if (path / f"{name}{ending}").is_file():
        return path / f"{name}{ending}"
  indexes = sorted(path.glob(f"*{INDEX}"))
  files = sorted(path.glob("*.safetensors"))
  found = indexes or files
  if len(found) == 1:
    return found[0]
  if found:
    names = ", ".join(p.name for p in found[:8])
    raise CheckpointError(f"{path} holds several sets of weights: name one of {names}")
  pickles = sorted(p for p in path.iterdir() if p.suffix in PICKLES)
  if pickles:
    raise CheckpointError(_pickled(pickles[0]))
  raise CheckpointError(f"{path} holds no .safetensors")


def _pickled(path: pathlib.Path) -> str:
  return (
    f"{path} is a pickle, which can run any code when it is read, so it is never "
    f"loaded. Convert it once: `unijax ckpt convert {path} --out=FILE.safetensors` "
    "reads one of plain tensors only, and refuses all else"
  )


def _read_index(path: pathlib.Path) -> dict[str, Entry]:
  """All entries of an index; every file holds what the index says, and no more."""
  content = _json(path, path.read_bytes())
  names = content.get("weight_map") if isinstance(content, dict) else None
  if not isinstance(names, dict) or not names:
    raise CheckpointError(f"{path} is damaged: it has no weight_map of names to files")
  files: dict[str, dict[str, Entry]] = {}
  for name, file in names.items():
    files.setdefault(_beside(path, name, file), {})
  missing = sorted(f for f in files if not (path.parent / f).is_file())
  if missing:
    raise CheckpointError(
      f"{path} names {len(files)} files, of which {len(missing)} are missing: "
      f"{', '.join(missing[:8])}. Fetch them again, into the same folder"
    )
  entries = {}
  for file in sorted(files):
    files[file] = read_header(path.parent / file)
    for name, entry in files[file].items():
      if name not in names:
        raise CheckpointError(f"{path}: {file} holds {name}, which the index does not")
      if name in entries:
        raise CheckpointError(f"{path}: {name} stands in two files, one of them {file}")
      entries[name] = entry
  for name, file in names.items():
    if name not in files[file]:
      raise CheckpointError(
        f"{path}: {name} should be in {file}, which does not hold it: files of "
        "different downloads are mixed"
      )
  return entries


def _beside(path: pathlib.Path, name: str, file: object) -> str:
  """A file name of an index, which must be plain: it may not leave the folder."""
  plain = isinstance(file, str) and file.endswith(".safetensors")
  if not plain or any(c in file for c in "/\\\0") or len(file) > 255:
    raise CheckpointError(
      f"{path}: {name} points to {file!r}, which is no .safetensors file beside the "
      "index; it was not opened"
    )
  return file


def read_header(path: pathlib.Path) -> dict[str, Entry]:
  """Reads the header of one file: name -> entry.

  Raises:
    CheckpointError: the file is missing, cut off or damaged.
  """
  try:
    size = path.stat().st_size
    with path.open("rb") as file:
      start = file.read(8)
      length = int.from_bytes(start, "little")
      if len(start) < 8 or length > min(size - 8, LONGEST_HEADER):
        raise CheckpointError(
          f"{path} is cut off or no safetensors file: it has {size} bytes and claims a "
          f"header of {length}"
        )
      content = _json(path, file.read(length))
  except OSError as error:
    raise CheckpointError(f"{path}: {error.strerror}") from error
  if not isinstance(content, dict):
    raise CheckpointError(f"{path} is damaged: its header is no JSON object")
  about = content.pop("__metadata__", {})
  if not isinstance(about, dict):
    raise CheckpointError(f"{path} is damaged: its __metadata__ is no JSON object")
  entries = {
    name: _entry(path, name, form, 8 + length, size) for name, form in content.items()
  }
  _check_places(path, entries, 8 + length, size)
  return entries


def _json(path: pathlib.Path, data: bytes):
  """Parses JSON, in which no name may stand twice."""

  def unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
      names = [name for name, _ in pairs]
      twice = next(n for n in names if names.count(n) > 1)
      raise CheckpointError(f"{path} is damaged: {twice!r} stands twice in its JSON")
    return found

  try:
    return json.loads(data.decode(), object_pairs_hook=unique)
  except (ValueError, RecursionError) as error:
    raise CheckpointError(
      f"{path} is damaged: {type(error).__name__} in its JSON: {error}"
    ) from error


def _entry(path, name: str, form: object, start: int, size: int) -> Entry:
  """Checks what the header says of one array."""

  def damaged(why: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or cut off: {name!r} {why}")

  if not isinstance(form, dict) or set(form) != {"dtype", "shape", "data_offsets"}:
    raise damaged("has no dtype, shape and data_offsets")
  code, shape, place = form["dtype"], form["shape"], form["data_offsets"]
  if not isinstance(code, str) or code not in BITS:
    raise damaged(f"has dtype {code!r}; known: {', '.join(BITS)}")
  if not _numbers(shape, LONGEST_AXIS) or len(shape) > 16:
    raise damaged(f"has shape {shape!r}")
  if not _numbers(place, 2**62) or len(place) != 2:
    raise damaged(f"has data_offsets {place!r}")
  begin, end = place
  wanted = math.prod(shape) * BITS[code].itemsize
  if end - begin != wanted:
    raise damaged(f"is {code}{shape}, {wanted} bytes, and has {end - begin}")
  if start + end > size:
    raise damaged(
      f"ends at byte {start + end} of a file of {size}: fetch the file again"
    )
  return Entry(path, tuple(shape), BITS[code], start + begin)


def _numbers(values: object, most: int) -> bool:
  """Whether this is a list of whole numbers from 0 on; JSON's true is none."""
  return isinstance(values, list) and all(
    type(x) is int and 0 <= x <= most for x in values
  )


def _check_places(path, entries: Mapping[str, Entry], start: int, size: int) -> None:
  """All bytes after the header belong to one array each."""
  at, before = start, "the header"
  for name, entry in sorted(entries.items(), key=lambda x: (x[1].begin, _bytes(x[1]))):
    if entry.begin != at:
      how = "overlaps" if entry.begin < at else "leaves a hole after"
      raise CheckpointError(f"{path} is damaged: {name!r} {how} {before!r}")
    at, before = at + _bytes(entry), name
  if at != size:
    raise CheckpointError(
      f"{path} is damaged: {size - at} bytes at its end belong to nothing"
    )


def _bytes(entry: Entry) -> int:
  return math.prod(entry.shape) * entry.dtype.itemsize
