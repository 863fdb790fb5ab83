"""Our side: released files of random weights, imported, run and compared.

python -m tests.interop.run                   the table of errors
python -m tests.interop.run export FOLDER [CASE ..]    also make every mistake, and export
                                              each case for `peers load`; `table` has both
"""

import contextlib
import importlib
import json
import pathlib
import sys
import tempfile

import jax
import numpy as np

from tests.interop import cases, numbers
from unijax.checkpoint import safetensors
from unijax.interop import exporting, files, importing, stream, system

COMMAND = "python -m tests.interop.run"


def write_release(case: cases.Case, folder: pathlib.Path, wrong=None) -> pathlib.Path:
  """Writes the small release of a case: config.json and weights."""
  wrong = wrong or cases.Wrong()
  expected = cases.read_expected(case.name)
  folder.mkdir(parents=True, exist_ok=True)
  content = {**case.published, **wrong.published}
  (folder / "config.json").write_text(json.dumps(content))
  chosen = system.load(case.system)
  name = chosen.file() if chosen.files() else "model.safetensors"
  write_weights(folder / name, case, expected)
  return folder


def write_weights(
  path, case: cases.Case, expected: cases.Expected, rename=None
) -> None:
  """Writes the weights; `rename` is from (name, array) to the same in another layout."""
  arrays = {}
  for name, (_, shape) in expected.forms.items():
    x = expected.whole.get(name)
    x = numbers.weight(name, shape, case.scale) if x is None else x
    new, x = (name, x) if rename is None else rename(name, x)
    arrays[new] = x
  for place, names in files.placed(arrays).items():
    inside = {short: arrays[name] for short, name in names.items()}
    forms = {n: (x.shape, x.dtype.name) for n, x in inside.items()}
    beside = system.load(case.system).files()
    there = path.parent / beside.get(place, pathlib.Path(place) / path.name)
    there.parent.mkdir(exist_ok=True)
    safetensors.write(there, forms, inside.items, {"format": "pt"})


def renamed(expected: cases.Expected, layout: str):
  """For `write_weights`: names and shapes of another layout."""

  def rename(name, x):
    new, shape = expected.others[layout].get(name, (name, x.shape))
    return new, x.reshape(shape)

  return rename


def params(found: importing.Found) -> dict[str, np.ndarray]:
  """Path -> numbers of what was found."""
  read = stream.read(found.match.pieces, found.theirs, found.ours)
  return {path: np.asarray(x) for path, x in read}


def outputs(family, case: cases.Case, folder, wrong=None) -> dict[str, np.ndarray]:
  """What we compute from the files in a folder."""
  with patched((wrong or cases.Wrong()).patch):
    found = importing.look(case.system, folder)
    weights = system.nested(params(found))
    config = importing.write_parts(found, pathlib.Path(folder), lambda _: None)
    with jax.default_matmul_precision("highest"):
      made = family.ours(config, weights, case.inputs())
    return {name: np.asarray(x) for name, x in made.items()}


@contextlib.contextmanager
def patched(values):
  """Puts values in the place of names of modules, for a while."""
  before = {}
  for path, value in values.items():
    module, _, name = path.rpartition(".")
    before[path] = getattr(importlib.import_module(module), name)
    setattr(importlib.import_module(module), name, value)
  try:
    yield
  finally:
    for path, value in before.items():
      module, _, name = path.rpartition(".")
      setattr(importlib.import_module(module), name, value)


def errors(case: cases.Case, made) -> dict[str, float]:
  kept = cases.read_expected(case.name).outputs
  assert made.keys() == kept.keys()
  return {name: cases.error(made[name], kept[name]) for name in kept}


def moved(name: str, wrong: str, place) -> float:
  """How far a mistake moves what we compute, as `cases.error`."""
  family, case = cases.everything()[name]
  mistake = case.wrong[wrong]
  folder = write_release(case, pathlib.Path(place) / f"{name}-{wrong}", mistake)
  return max(errors(case, outputs(family, case, folder, mistake)).values())


def table(export: pathlib.Path | None = None, names=()) -> int:
  """Prints the parity table; returns how many outputs are beyond their bound."""
  print("| system | case | what | largest error / largest number | bound |")
  print("|---|---|---|---|---|")
  bad, every = 0, cases.everything()
  with tempfile.TemporaryDirectory() as place:
    for name in names or every:
      family, case = every[name]
      folder = write_release(case, pathlib.Path(place) / name)
      about = {"system": case.system}
      about["errors"] = errors(case, outputs(family, case, folder))
      for what, value in about["errors"].items():
        bound = case.bounds.get(what, case.bound)
        bad += value > bound
        print(
          f"| {case.system} | {name} | {what} | {value:.1e} | {bound:.0e} |", flush=True
        )
      if export:
        about["wrong"] = {wrong: moved(name, wrong, place) for wrong in case.wrong}
        run = pathlib.Path(place) / f"{name}-run"
        quiet = lambda _: None
        importing.import_run(case.system, folder, run, say=quiet)
        exporting.export_run(str(run), export / name, say=quiet)
        (export / f"{name}.json").write_text(json.dumps(about))
  print(
    f"\n`{COMMAND}`, {jax.devices()[0].platform}, float32; {bad} beyond their bound"
  )
  return bad


if __name__ == "__main__":
  told = sys.argv[2:] if sys.argv[1:2] == ["export"] else []
  sys.exit(table(*map(pathlib.Path, told[:1]), told[1:]) if told else table())
