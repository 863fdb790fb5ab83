"""`unijax systems`: every config file and the value it picks on each axis."""

import dataclasses
import pathlib

from unijax import config_file
from unijax.commands import released, sizes
from unijax.config import Config, ConfigError
from unijax.report import markdown_table, plain_table

BEGIN, END = "<!-- systems: begin -->", "<!-- systems: end -->"
NOT_SYSTEMS = ("__init__.py", "base.py", "common.py")
NOT_FOLDERS = ("released", "studies")  # read by interop, and by `unijax sweep`
PRESET = "tiny"

# Axes that a config decides, by what it trains: (title, knob).
AXES = {
  "unified": (
    ("written by", "model.write"), ("read by", "model.read"), ("codec", "data.codec"),
    ("shared", "model.sharing"), ("mask in images", "model.image_mask"),
    ("clean copies", "data.clean_copy"), ("patches", "model.patch_codec"),
    ("positions", "model.positions"), ("time", "model.time_injection"),
    ("path", "diffusion.path"), ("predicts", "diffusion.predict"),
  ),
  "drawing": (
    ("condition", "dit.conditioning"), ("codec", "data.codec"),
    ("positions", "dit.positions"), ("path", "diffusion.path"),
    ("predicts", "diffusion.predict"),
  ),
  "codec": (
    ("bottleneck", "codec.bottleneck"), ("channels", "codec.channels"),
  ),
  "decoder": (
    ("condition", "dit.conditioning"), ("pooling", "codec.pooling"),
    ("path", "diffusion.path"), ("predicts", "diffusion.predict"),
  ),
  "alignment": (
    ("objective", "align.objective"), ("patch", "vision.patch_size"),
    ("pooled by", "vision.pool"), ("frozen", "align.frozen"),
  ),
}  # fmt: skip
WITHOUT_TIME = ("model.time_injection", "diffusion.path", "diffusion.predict")


def run(args) -> dict:
  """Prints the tables; with `--write`, puts them between the marks of a file.

  Raises:
    ConfigError: no configs in the folder, or a file without the marks.
  """
  folder = pathlib.Path(args.configs)
  if args.released:
    return _released(args)
  if args.sizes:
    return _sizes(folder)
  found = read(folder)
  for task, (head, rows) in tables(found).items():
    print(f"train.task = {task}")
    print(plain_table(head, rows, left=range(len(head))), end="\n\n")
  if args.write:
    put(pathlib.Path(args.write), markdown(found))
  return {"verb": "systems", "systems": sorted(found)}


def _released(args) -> dict:
  """Prints what released models need; with `--write`, into a file as well."""
  found = list(released.needs(args.devices))
  rows = [x.row() for x in found]
  print(plain_table(released.HEAD, rows, left=(0, 1)))
  if args.write:
    lines = [BEGIN, markdown_table(released.HEAD, rows), END]
    put(pathlib.Path(args.write), "\n".join(lines))
  return {"verb": "systems", "released": [dataclasses.asdict(x) for x in found]}


def _sizes(folder: pathlib.Path) -> dict:
  """Prints parameters beside published ones, with their ratio."""
  made = []
  for name, path in files(folder).items():
    made += sizes.sizes(path, name)
  print(plain_table(sizes.HEAD, [x.row() for x in made], left=(0, 5)))
  return {
    "verb": "systems",
    "sizes": {
      x.config: {"built": x.built, "counted": x.counted, "published": x.published}
      for x in made
    },
    "differ": [x.config for x in made if not (x.close or x.explained)],
  }


def files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns every config file, by its path in the folder.

  Raises:
    ConfigError: there is none.
  """
  paths = sorted(
    p for p in folder.rglob("*.py")
    if p.name not in NOT_SYSTEMS and p.parent.name not in NOT_FOLDERS
  )  # fmt: skip
  if not paths:
    raise ConfigError(f"{folder}: no config files; name their folder with --configs")
  return {str(path.relative_to(folder)): path for path in paths}


def read(folder: pathlib.Path) -> dict[str, Config]:
  """Returns the tiny preset of every config file, by its path in the folder."""
  return {
    name: config_file.load([f"--config={path}:{PRESET}"])
    for name, path in files(folder).items()
  }


def tables(found: dict[str, Config]) -> dict[str, tuple[list[str], list[list[str]]]]:
  """Returns (titles, a row a config) by task; an axis that is not read is a dash."""
  result = {}
  for task, axes in AXES.items():
    rows = [
      [name, *(_value(config, knob) for _, knob in axes)]
      for name, config in found.items()
      if config.train.task == task
    ]
    if rows:
      result[task] = (["config", *(title for title, _ in axes)], rows)
  return result


def _value(config: Config, knob: str) -> str:
  if config.train.task == "unified" and knob in WITHOUT_TIME and not config.write.timed:
    return "-"
  section, name = knob.split(".")
  return str(getattr(getattr(config, section), name)) or "-"


def markdown(found: dict[str, Config]) -> str:
  """The same as Markdown, with the marks around it."""
  lines = [BEGIN]
  for task, (head, rows) in tables(found).items():
    lines += ["", f"`train.task = {task}`, presets `{PRESET}`:", ""]
    lines.append(markdown_table(head, rows))
  return "\n".join([*lines, "", END])


def put(path: pathlib.Path, new: str) -> None:
  """Puts text, `new`, whose first and last lines are marks, between these in a file.

  Raises:
    ConfigError: it has none.
  """
  text, first, last = path.read_text(), *new.splitlines()[:: len(new.splitlines()) - 1]
  before, begin, rest = text.partition(first)
  _, end, after = rest.partition(last)
  if not (begin and end):
    raise ConfigError(f"{path}: has no lines {first!r} and {last!r} to write between")
  path.write_text(before + new + after)
