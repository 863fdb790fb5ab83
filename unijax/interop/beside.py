"""What releases say of a model: config.json, and how its pictures are prepared."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unijax.checkpoint.errors import CheckpointError

# Field of a release -> its file; all others are in config.json.
FILES = {
  "preprocessor": "preprocessor_config.json", "processor": "processor_config.json",
  "generation": "generation_config.json",
}  # fmt: skip


def folder(path: pathlib.Path) -> pathlib.Path:
  """The folder of a release, of which `path` is the folder or a file."""
  return path if path.is_dir() else path.parent


def read_json(place: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file; {} where there is no file.

  Raises:
    CheckpointError: it is damaged.
  """
  if not place.is_file():
    return {}
  try:
    content = json.loads(place.read_text())
  except (ValueError, RecursionError) as error:
    raise CheckpointError(f"{place} is damaged: {error}") from error
  if not isinstance(content, dict):
    raise CheckpointError(f"{place} is damaged: it is no JSON object")
  return content


def fields(
  path: pathlib.Path, configs: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
  """config.json of a release with what its other files say under their names.

  What prepares pictures may stand in the file of the whole processor.

  Args:
    path: of the weights.
    configs: field -> file of a release that has no config.json, or a short one.

  Raises:
    CheckpointError: one of them is damaged.
  """
  found = read_json(folder(path) / "config.json")
  for name, file in configs.items():
    content = read_json(folder(path) / file)
    found |= {name: content} if content else {}
  for name, file in FILES.items():
    content = read_json(folder(path) / file)
    if content and found:
      found[name] = content
  inside = found.get("processor", {}).get("image_processor")
  return {"preprocessor": inside, **found} if inside else found


def write(
  content: dict[str, Any], place: pathlib.Path, folders: Sequence[str] = (),
  configs: Mapping[str, str] = MappingProxyType({}),
) -> None:  # fmt: skip
  """The inverse of `fields`: config.json, and other files where there is something.

  What a field named like one of the `folders` says is in config.json there.
  """
  files = FILES | dict(configs) | {name: f"{name}/config.json" for name in folders}
  rest = {name: x for name, x in content.items() if name not in files}
  parts = {"config.json": rest} if rest else {}
  parts |= {files[n]: content[n] for n in files if n in content}
  for file, part in parts.items():
    (place / file).parent.mkdir(exist_ok=True)
    (place / file).write_text(json.dumps(part, indent=2) + "\n")
