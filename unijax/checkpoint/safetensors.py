"""The format .safetensors, which other libraries read: a JSON header, then numbers.

https://github.com/huggingface/safetensors#format. What a header says is distrusted:
sizes, places, types.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping

import ml_dtypes
import numpy as np

from unijax import disk
from unijax.checkpoint.errors import CheckpointError

TYPES = {  # NumPy -> safetensors
  "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
  "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
  "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
  "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
BITS = {code: np.dtype(getattr(ml_dtypes, n, n)) for n, code in TYPES.items()}
LONGEST_HEADER = 100_000_000  # bytes, as the format says
LONGEST_AXIS = 2**40


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


def write(
  path: pathlib.Path,
  forms: Mapping[str, tuple[tuple[int, ...], str]],
  load: Callable[[], Iterable[tuple[str, np.ndarray]]],
  about: Mapping[str, str],
) -> int:
  """Writes a file, an array at a time; returns its size in bytes.

  Args:
    path: is replaced once all is written.
    forms: name -> (shape, NumPy dtype); every dtype is in `TYPES`.
    load: yields (name, array) in the order of `forms`.
    about: strings for the header.
  """
  header, end = {"__metadata__": dict(about)}, 0
  for name, (shape, dtype) in forms.items():
    begin, end = end, end + math.prod(shape) * BITS[TYPES[dtype]].itemsize
    header[name] = {
      "dtype": TYPES[dtype], "shape": list(shape), "data_offsets": [begin, end]
    }  # fmt: skip
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
  with disk.replaced(path) as temporary, temporary.open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for _, array in load():
      file.write(np.ascontiguousarray(array).tobytes())
    size = file.tell()
  return size


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a whole file: name -> array.

  Raises:
    CheckpointError: the file is missing, cut off or damaged.
  """
  return {name: np.array(entry.read()) for name, entry in read_header(path).items()}


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
      content = parsed(path, file.read(length))
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


def parsed(path: pathlib.Path, data: bytes):
  """Parses JSON of a file, in which no name may stand twice.

  Raises:
    CheckpointError: it is none.
  """

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
