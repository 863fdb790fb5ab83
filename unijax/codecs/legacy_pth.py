"""Reads the pre-2020 ("legacy") PyTorch weight format without torch or trust.

Such a file is five pickles (magic number, protocol, machine, state dict, storage
keys) and then, per key, an int64 element count and the raw little-endian numbers.
A pickle may name any function on the machine and call it, so this reader resolves
exactly the names in `_ALLOWED` and refuses every other; the two functions among them
are written here and touch nothing but their arguments. Offsets, sizes and strides
come from the file too and are checked before memory is read.
"""

import collections
import dataclasses
import math
import pickle
import struct
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
DTYPES = {
  "BFloat16Storage": "bfloat16",
  "BoolStorage": "?",
  "ByteStorage": "u1",
  "CharStorage": "i1",
  "DoubleStorage": "<f8",
  "FloatStorage": "<f4",
  "HalfStorage": "<f2",
  "IntStorage": "<i4",
  "LongStorage": "<i8",
  "ShortStorage": "<i2",
}


class WeightsError(ValueError):
  """A weight file that is missing, damaged, of another kind, or not to be trusted."""


@dataclasses.dataclass(frozen=True)
class Storage:
  """Numbers that tensors are views of, by the key they are stored under."""

  key: str
  dtype: str
  count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
  """What a pickle says of a tensor; `view` checks it."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, stride, *_unused_grad_and_hooks):
  return Tensor(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(tensor, *_unused_grad_and_hooks):
  return tensor


_ALLOWED = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
  **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class Reader(pickle.Unpickler):
  """An unpickler that can build dicts, plain values and `Tensor`s, nothing else."""

  def find_class(self, module, name):
    if (module, name) not in _ALLOWED:
      raise WeightsError(
        f"the file asks for {module}.{name}, which no weight file needs; it was not "
        "loaded. Get the file again from a source you trust."
      )
    return _ALLOWED[module, name]

  def persistent_load(self, pid):
    kind, dtype, key, _location, count, view = pid
    if kind != "storage" or view is not None:
      raise WeightsError(f"unknown storage record {pid!r}")
    return Storage(key, dtype, count)


def read_legacy_pth(path: Path | str) -> dict[str, np.ndarray]:
  """Returns the arrays of a legacy `.pth` state dict, by name.

  Args:
    path: file written by `torch.save(model.state_dict(), path)` before torch 1.6.

  Raises:
    WeightsError: no such file, another format, a name outside the allow-list, a
      truncated file, or a tensor that reaches outside its storage.
  """
  path = Path(path)
  try:
    with path.open("rb") as file:
      return _read(file)
  except FileNotFoundError:
    raise WeightsError(f"{path}: no such file") from None
  except WeightsError as error:
    raise WeightsError(f"{path}: {error}") from None
  except Exception as error:  # whatever a damaged pickle raises
    raise WeightsError(
      f"{path}: not a legacy .pth file, or damaged ({type(error).__name__}: {error})"
    ) from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
  magic, protocol, machine = (Reader(file).load() for _ in range(3))
  if magic != _MAGIC or protocol != _PROTOCOL:
    raise WeightsError("not a legacy .pth file (wrong magic number or protocol)")
  if not machine["little_endian"]:
    raise WeightsError("written on a big-endian machine, which is not supported")
  tensors = Reader(file).load()
  keys = Reader(file).load()
  dtypes = {t.storage.key: dtype_of(t.storage) for t in tensors.values()}
  storages = {}
  for key in keys:
    (count,) = struct.unpack("<q", file.read(8))
    dtype = dtypes[key]
    data = file.read(max(count, 0) * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
      raise WeightsError(f"storage {key} is cut short")
    storages[key] = np.frombuffer(data, dtype)
  return {name: view(name, t, storages[t.storage.key]) for name, t in tensors.items()}


def dtype_of(storage: Storage) -> np.dtype:
  """The type of the numbers of a storage."""
  return np.dtype(getattr(ml_dtypes, storage.dtype, storage.dtype))


def view(name: str, tensor: Tensor, data: np.ndarray) -> np.ndarray:
  """Returns a tensor of the numbers of its storage.

  Raises:
    WeightsError: it reaches outside of them.
  """
  shape, stride = tensor.shape, tensor.stride
  whole = len(shape) == len(stride) and min(shape + stride, default=0) >= 0
  whole = whole and math.prod(shape) <= data.size  # none is given out twice
  if 0 in shape:
    return np.zeros(shape, data.dtype)
  last = sum((n - 1) * s for n, s in zip(shape, stride, strict=False))
  if not whole or tensor.offset < 0 or tensor.offset + last >= data.size:
    raise WeightsError(
      f"tensor {name} (offset {tensor.offset}, shape {shape}, stride {stride}) reaches "
      f"outside its storage of {data.size} numbers"
    )
  bytes_ = tuple(s * data.itemsize for s in stride)
  view = np.lib.stride_tricks.as_strided(data[tensor.offset :], shape, bytes_)
  return view.copy()
