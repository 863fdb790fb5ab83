"""Weights as they are published: files .safetensors, alone or in numbered parts.

A release may have folders, or files, with weights of their own beside its first ones;
names of these have FOLDER/, or what stands for the file, in front.

Only headers are read on opening; numbers are read one array at a time. Everything in
them is distrusted, names of other files too. Nothing is ever unpickled. An index of
several files is JSON with `weight_map`: {name: file beside it}.
"""

import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.safetensors import Entry, parsed, read_header

INDEX = ".safetensors.index.json"
ONE = ("model", "diffusion_pytorch_model")  # names of the only file, or of the index
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def open_weights(
  path: str | pathlib.Path, folders: Sequence[str] = (), first: str | None = "",
  beside: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Entry]:  # fmt: skip
  """Reads the headers of a published model: name -> entry.

  Args:
    path: a file .safetensors, an index, or a folder that holds one of them.
    folders: names of those beside it that hold the rest.
    first: name of the file in a folder that is meant, if it is there; None: `path` is
      a folder, all of whose weights are in its `folders`.
    beside: what stands before names -> the file beside it that has them.

  Raises:
    CheckpointError: nothing to read there, a pickle, a file that is missing, cut off
      or damaged, an index that disagrees with its files or points elsewhere.
  """
  path = pathlib.Path(path)
  if first is None:
    if not path.is_dir():
      raise CheckpointError(f"{path}: no folder; name that of {', '.join(folders)}")
    root, found = path, {}
  else:
    path = find(path / first if first and (path / first).is_file() else path)
    found = _read_index(path) if path.name.endswith(".json") else read_header(path)
    root = path.parent
  for folder in folders:
    inside = open_weights(root / folder)
    found |= {f"{folder}/{name}": entry for name, entry in inside.items()}
  for place, file in beside.items():
    inside = open_weights(root / file)
    found |= {f"{place}/{name}": entry for name, entry in inside.items()}
  return found


def placed(names: Iterable[str]) -> dict[str, dict[str, str]]:
  """Folder of a release ("" is itself), or file -> {name in there: whole name}."""
  found: dict[str, dict[str, str]] = {}
  for name in names:
    folder, _, inside = name.rpartition("/")
    found.setdefault(folder, {})[inside] = name
  return found


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
  names = read_map(path)
  files: dict[str, dict[str, Entry]] = dict.fromkeys(names.values(), {})
  check_there(path, files)
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


def read_map(
  path: pathlib.Path, endings: Sequence[str] = (".safetensors",)
) -> dict[str, str]:
  """Name -> file beside it, of an index of files with these endings."""
  content = parsed(path, path.read_bytes())
  names = content.get("weight_map") if isinstance(content, dict) else None
  if not isinstance(names, dict) or not names:
    raise CheckpointError(f"{path} is damaged: it has no weight_map of names to files")
  return {n: _beside(path, n, file, tuple(endings)) for n, file in names.items()}


def check_there(path: pathlib.Path, files: Collection[str]) -> None:
  """Raises CheckpointError where files of an index are missing."""
  missing = sorted(f for f in files if not (path.parent / f).is_file())
  if missing:
    raise CheckpointError(
      f"{path} names {len(files)} files, of which {len(missing)} are missing: "
      f"{', '.join(missing[:8])}. Fetch them again, into the same folder"
    )


def _beside(path: pathlib.Path, name: str, file: object, endings) -> str:
  """A file name of an index, which must be plain: it may not leave the folder."""
  plain = isinstance(file, str) and file.endswith(endings)
  if not plain or any(c in file for c in "/\\\0") or len(file) > 255:
    raise CheckpointError(
      f"{path}: {name} points to {file!r}, which is no {' or '.join(endings)} file "
      "beside the index; it was not opened"
    )
  return file
