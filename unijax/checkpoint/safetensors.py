"""The format .safetensors, which other libraries read: a JSON header, then numbers.

https://github.com/huggingface/safetensors#format
"""

import json
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
    begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * _width(dtype)
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


def _width(dtype: str) -> int:
  """Bytes of an element; NumPy alone does not know bfloat16 by name."""
  code = TYPES[dtype].split("_")[0].lstrip("BOLFIU")
  return int(code) // 8 if code else 1


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads a file that `write` wrote: name -> array.

  Raises:
    CheckpointError: the file is cut off or damaged.
  """
  content = path.read_bytes()
  try:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    names = {code: name for name, code in TYPES.items()}
    arrays = {}
    for name, form in header.items():
      begin, end = (8 + length + offset for offset in form["data_offsets"])
      flat = np.frombuffer(content[begin:end], _dtype(names[form["dtype"]]))
      arrays[name] = flat.reshape(form["shape"])
    return arrays
  except (ValueError, KeyError, TypeError) as error:
    raise CheckpointError(f"{path} is damaged: {error}") from error


def _dtype(name: str) -> np.dtype:
  return np.dtype(getattr(ml_dtypes, name, name))
