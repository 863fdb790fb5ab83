"""The table of parity cases: every family_*.py beside this file adds its own.

A family is a module with
  CASES                      tuple of `Case`
  build(published)           the reference's model of a config.json, an object with
                             save_pretrained(folder); torch is imported inside
  load(folder)               the same from a folder
  peer(model, inputs)        {name: array}: what the reference computes
  ours(config, params, inputs)   {name: array}: what we compute; jax inside
and, where weights lie in several files of one folder,
  PLACES                     {file: what is before names in it, a / between}
and, where files are published under other names too,
  other_names(published, forms)  {layout: {name: (other name, its shape)}}, from the
                             reference's own converters
so that the comparison reads on one page. Nothing here imports torch or jax on import:
`python -m tests.interop.peers` runs where there is no jax, the tests where there is no
torch.
"""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
EXPECTED = HERE / "expected"
BOUND = 2e-5  # of the reference's largest number
CONTROL = 10  # a mistake must move the outputs by this many bounds, or more


@dataclasses.dataclass(frozen=True)
class Wrong:
  """A mistake that a comparison must notice.

  Attributes:
    published: fields of config.json that are read wrongly.
    patch: "module.name" -> value in its place.
  """

  published: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  patch: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
  """One comparison.

  Attributes:
    name: of its file in expected/, and of the test.
    system: file of configs/released/.
    published: config.json of a small model.
    scale: of its weights; see `numbers`.
    inputs: makes what both sides are given.
    wrong: mistakes that must be noticed.
    bound: of the error, relative to the reference's largest number.
    bounds: other bounds for some outputs.
    slow: another case tells most of what it does; only the slow tests run it.
  """

  name: str
  system: str
  published: Mapping[str, Any]
  scale: str
  inputs: Callable[[], Mapping[str, np.ndarray]]
  wrong: Mapping[str, Wrong] = dataclasses.field(default_factory=dict)
  bound: float = BOUND
  bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
  slow: bool = False


@dataclasses.dataclass(frozen=True)
class Expected:
  """What a file of expected/ has.

  Attributes:
    forms: name in the released file -> (safetensors dtype, shape).
    whole: arrays of whole numbers that the file has, which are not random.
    outputs: of the reference.
    others: layout -> name -> name and shape in that layout, of names that differ.
  """

  forms: Mapping[str, tuple[str, tuple[int, ...]]]
  whole: Mapping[str, np.ndarray]
  outputs: Mapping[str, np.ndarray]
  others: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]


def families() -> dict[str, Any]:
  """Modules by name."""
  names = sorted(p.stem for p in HERE.glob("family_*.py"))
  return {n: importlib.import_module(f"tests.interop.{n}") for n in names}


def everything() -> dict[str, tuple[Any, Case]]:
  """(family, case) by the case's name."""
  found = {}
  for family in families().values():
    for case in family.CASES:
      assert case.name not in found, case.name
      found[case.name] = family, case
  return found


def marked(*rest: Callable[[Case], Any]) -> list:
  """Parameters of tests: each case's name, and what else is made of it.

  Of what is made of the cases of a system, such as its mistakes, only the slow tests run
  more than the first.
  """
  import pytest

  found, told = [], set()
  for name, (_, case) in everything().items():
    made = [[name]] if not rest else [[name, x] for of in rest for x in of(case)]
    for values in made:
      slow = case.slow or (rest and case.system in told)
      found.append(pytest.param(*values, marks=[pytest.mark.slow] if slow else []))
      if not slow:
        told.add(case.system)
  return found


def write_expected(name: str, expected: Expected) -> None:
  forms = {n: [dtype, *shape] for n, (dtype, shape) in expected.forms.items()}
  EXPECTED.mkdir(exist_ok=True)
  np.savez_compressed(
    EXPECTED / f"{name}.npz",
    forms=np.frombuffer(json.dumps(forms).encode(), np.uint8),
    others=np.frombuffer(json.dumps(expected.others).encode(), np.uint8),
    **{f"whole:{n}": x for n, x in expected.whole.items()},
    **{f"out:{n}": x for n, x in expected.outputs.items()},
  )


def read_expected(name: str) -> Expected:
  with np.load(EXPECTED / f"{name}.npz") as file:
    forms, others = (json.loads(file[n].tobytes()) for n in ("forms", "others"))
    part = lambda mark: {
      n.removeprefix(mark): file[n] for n in file.files if n.startswith(mark)
    }
    return Expected(
      {n: (form[0], tuple(form[1:])) for n, form in forms.items()},
      part("whole:"), part("out:"), others,
    )  # fmt: skip


def error(found: np.ndarray, wanted: np.ndarray) -> float:
  """Largest difference over the reference's largest number; inf where shapes differ."""
  found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
  if found.shape != wanted.shape or not np.isfinite(found).all():
    return float("inf")
  return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def read_release(folder, part: str, file: str = "model.safetensors"):
  """(weights by name, config.json) of a release with a part in a folder of its name.

  Names of the part's weights have PART/ in front, its config.json is a field.
  """
  from safetensors.torch import load_file

  weights = load_file(folder / "model.safetensors")
  weights |= {f"{part}/{n}": x for n, x in load_file(folder / part / file).items()}
  read = lambda place: json.loads((place / "config.json").read_text())  # noqa: E731
  return weights, {**read(folder), part: read(folder / part)}


def loaded(model, folder, **options):
  """A library's model from a folder in which it finds all it looks for, and no more.

  Args:
    model: its class.
    folder: with config.json and weights.
    **options: for its from_pretrained.
  """
  made, told = model.from_pretrained(folder, output_loading_info=True, **options)
  assert not any(told.values()), told
  return made.eval()
