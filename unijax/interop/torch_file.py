"""Tensors of a PyTorch file, without torch and without trust.

Since 1.6 such a file is a zip archive: NAME/data.pkl, a pickle of the tensors' names,
shapes and strides, and NAME/data/KEY, the raw little-endian numbers of each storage.
The pickle is read by the same reader as the older format (`codecs.legacy_pth`), which
can build dicts, plain values and descriptions of tensors, and refuses every other name.
"""

import json
import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np

from unijax import disk
from unijax.checkpoint import safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.codecs import legacy_pth
from unijax.codecs.legacy_pth import WeightsError
from unijax.interop import files

NESTED = ("state_dict", "model", "module")  # names under which tensors may stand
LARGEST_PICKLE = 256 * 2**20  # bytes; tensors are not inside of it


class _Reader(legacy_pth.Reader):
  """The reader of the older format, with the storages of the newer one."""

  def persistent_load(self, pid):
    kind, dtype, key, _location, count = pid
    if kind != "storage" or type(count) is not int:
      raise WeightsError(f"unknown storage record {pid!r}")
    return legacy_pth.Storage(str(key), dtype, count)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the tensors of a file by name.

  Args:
    path: of torch.save, of a dict of tensors, or of one that holds such a dict under a
      name of `NESTED`.

  Raises:
    CheckpointError: no such file, damaged, or it holds anything but tensors.
  """
  try:
    if zipfile.is_zipfile(path):
      found = _read_zip(path)
    else:
      found = legacy_pth.read_legacy_pth(path)
  except WeightsError as error:
    where = "" if str(error).startswith(str(path)) else f"{path}: "
    raise CheckpointError(f"{where}{error}") from error
  except OSError as error:
    raise CheckpointError(f"{path}: {error.strerror}") from error
  except Exception as error:  # whatever a damaged archive or pickle raises
    raise CheckpointError(
      f"{path} is damaged ({type(error).__name__}: {error})"
    ) from error
  if not found:
    raise CheckpointError(f"{path} holds no tensors")
  return found


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(path) as archive:
    pickles = [n for n in archive.namelist() if n.endswith("data.pkl")]
    if len(pickles) != 1:
      raise WeightsError("not a file of torch.save (no data.pkl)")
    top = pickles[0].removesuffix("data.pkl")
    if archive.getinfo(pickles[0]).file_size > LARGEST_PICKLE:
      raise WeightsError("its data.pkl is larger than that of any model")
    order = f"{top}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
      raise WeightsError("written on a big-endian machine, which is not supported")
    with archive.open(pickles[0]) as file:
      state = _tensors(_Reader(file).load())
    storages: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
      storage = tensor.storage
      if storage.key not in storages:
        data = archive.read(f"{top}data/{storage.key}")
        kind = legacy_pth.dtype_of(storage)
        if len(data) != storage.count * kind.itemsize:
          raise WeightsError(f"the storage of {name} is cut short")
        storages[storage.key] = np.frombuffer(data, kind)
    return {n: legacy_pth.view(n, t, storages[t.storage.key]) for n, t in state.items()}


def _tensors(state) -> dict[str, legacy_pth.Tensor]:
  """The dict of tensors, wherever it is; anything else is refused."""
  for name in NESTED:
    if isinstance(state, dict) and isinstance(state.get(name), dict):
      state = state[name]
      break
  if not isinstance(state, dict):
    raise WeightsError(f"holds a {type(state).__name__}, not a dict of tensors")
  for name, tensor in state.items():
    if not isinstance(name, str) or not isinstance(tensor, legacy_pth.Tensor):
      raise WeightsError(
        f"holds {name!r}, a {type(tensor).__name__}, which is no tensor"
      )
  return dict(state)


def convert(path: pathlib.Path, out: pathlib.Path) -> tuple[int, int]:
  """Writes the tensors of a PyTorch file, or of an index of several, as .safetensors.

  Args:
    path: the file, or an index: JSON with `weight_map`, {name: file beside it}.
    out: the file to write; of an index, the index to write, which the parts stand
      beside. One part is in memory at a time.

  Returns:
    (number of arrays, their bytes).

  Raises:
    CheckpointError: as `read`; `out` is no .safetensors, or no index of such; a part
      that is missing, or holds other names than the index says.
  """
  if not path.is_file():
    raise CheckpointError(f"{path}: no such file")
  several = path.name.endswith(".json")
  ending = files.INDEX if several else ".safetensors"
  if not out.name.endswith(ending):
    raise CheckpointError(f"--out={out}: name a file {ending}")
  return (_convert_index if several else _convert_one)(path, out)


def _convert_one(
  path: pathlib.Path, out: pathlib.Path, names: Iterable[str] = ()
) -> tuple[int, int]:
  """One file, which holds `names`, if any are said, and no others."""
  arrays = read(path)
  if names and (odd := sorted(set(names) ^ set(arrays))):
    raise CheckpointError(
      f"{path} and the index disagree about {odd[0]} and {len(odd) - 1} more: files of "
      "different downloads are mixed"
    )
  forms = {n: (x.shape, x.dtype.name) for n, x in arrays.items()}
  safetensors.write(out, forms, arrays.items, {"format": "pt"})
  return len(arrays), sum(x.nbytes for x in arrays.values())


def _convert_index(path: pathlib.Path, out: pathlib.Path) -> tuple[int, int]:
  parts: dict[str, list[str]] = {}
  for name, file in files.read_map(path, files.PICKLES).items():
    parts.setdefault(file, []).append(name)
  files.check_there(path, parts)
  written, total, where = 0, 0, {}
  for file, names in parts.items():
    part = f"{pathlib.Path(file).stem}.safetensors"
    count, size = _convert_one(path.parent / file, out.parent / part, names)
    written, total = written + count, total + size
    where |= dict.fromkeys(names, part)
  content = {"metadata": {"total_size": total}, "weight_map": where}
  with disk.replaced(out) as place:  # last: without it the parts are no weights
    place.write_text(json.dumps(content, indent=2))
  return written, total
