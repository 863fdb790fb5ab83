"""Laws of the house: imports point one way, and importing does nothing."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "unijax"

# What each part of the core may import of unijax, besides itself. Whatever is not named
# here stands on the core (evals, ...): it may import all of it, and none of it imports
# that. The command line sees everything and nobody sees it.
MAY_IMPORT = {
  "types": "",
  "errors": "",
  "disk": "",
  "low_rank": "",
  "code_ids": "",
  "asked": "errors",
  "codecs": "errors config_parts config_sections nn diffusion",
  "report": "disk",
  "config_align": "",
  "config_reads": "config_align",
  "config_codec": "",
  "config_images": "",
  "config_blocks": "",
  "config_laws": "codecs config_align config_blocks config_codec config_images "
  "config_writes errors",
  "config_checks": "codecs config_align config_blocks config_images config_laws "
  "config_reads config_writes errors",
  "config_writes": "",
  "config_parts": "",
  "config_sections": "config_parts",
  "config_sources": "config_sections config_values",
  "config_values": "errors",
  "config_stages": "config_sections config_values errors",
  "config": "codecs config_checks config_parts config_sections config_sources "
  "config_stages config_values config_reads config_writes errors",
  "config_file": "config",
  "diffusion": "config types",
  "nn": "config config_parts config_reads config_sections low_rank types",
  "data": "config config_reads config_writes code_ids codecs types disk errors report asked",
  "checkpoint": "config low_rank types disk",
  "write": "config config_writes code_ids types nn diffusion",
  "scale": "config types nn",
  "train": "config low_rank types codecs data nn diffusion write checkpoint scale disk",
  "infer": "config config_images types codecs data nn diffusion write checkpoint train "
  "disk",
}
COMMAND_LINE = ("cli", "commands", "__main__")


def part(module: str) -> str:
  """'unijax.nn.rope' -> 'nn'; '' for the package itself."""
  return module.split(".")[1] if "." in module else ""


def module_of(path: pathlib.Path) -> str:
  names = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(n for n in names if n != "__init__")


def imports(text: str) -> set[str]:
  """Modules of unijax that a file imports, inside functions too."""
  found = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      found |= {a.name for a in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "relative imports hide where a name comes from"
      found.add(node.module)
      if node.module == "unijax":
        found |= {f"unijax.{a.name}" for a in node.names}
  return {m for m in found if m == "unijax" or m.startswith("unijax.")}


def unlawful(module: str, imported: str) -> bool:
  """Whether this import points the wrong way."""
  here, there = part(module), part(imported)
  if there in ("", here) or here in COMMAND_LINE:
    return False
  if there in COMMAND_LINE:
    return True
  if here in MAY_IMPORT:
    return there not in MAY_IMPORT[here].split()
  return False


@pytest.mark.parametrize(
  ("module", "imported", "wrong"),
  [
    ("unijax.nn.model", "unijax.config", False),
    ("unijax.nn.model", "unijax.nn.rope", False),
    ("unijax.nn.model", "unijax.data.rows", True),
    ("unijax.data.rows", "unijax.nn", True),
    ("unijax.train.loop", "unijax.infer.generate", True),
    ("unijax.train.loop", "unijax.evals.suite", True),
    ("unijax.infer.load", "unijax.train.step", False),
    ("unijax.evals.suite", "unijax.infer.load", False),
    ("unijax.evals.suite", "unijax.cli", True),
    ("unijax.cli", "unijax.evals.suite", False),
    ("unijax.train.loop", "unijax", False),
  ],
)
def test_which_way_is_wrong(module, imported, wrong):
  assert unlawful(module, imported) == wrong


def test_imports_point_one_way():
  files = sorted(PACKAGE.rglob("*.py"))
  assert len(files) > 50
  wrong = [
    f"{path.relative_to(ROOT)} imports {imported}"
    for path in files
    for imported in sorted(imports(path.read_text()))
    if unlawful(module_of(path), imported)
  ]
  assert not wrong, "\n".join(wrong)


def test_the_map_names_what_exists():
  there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
  for names in [MAY_IMPORT, *(v.split() for v in MAY_IMPORT.values())]:
    assert set(names) <= there


HEAVY = ("tensorflow", "torch", "keras", "matplotlib", "pandas")
REPORT = """
import importlib, json, sys
for name in sys.argv[1:]:
  importlib.import_module(name)
started = "jax" in sys.modules and (
  sys.modules["jax._src.xla_bridge"].backends_are_initialized()
)
print(json.dumps({"modules": sorted(sys.modules), "started": started}))
"""


def after_importing(*modules: str) -> dict:
  run = subprocess.run(
    [sys.executable, "-c", REPORT, *modules], cwd=ROOT, text=True, capture_output=True
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout)


@pytest.mark.parametrize("modules", ["unijax", "unijax and its command line", "all"])
def test_importing_loads_nothing_heavy_and_starts_nothing(modules):
  every = [module_of(p) for p in sorted(PACKAGE.rglob("*.py")) if p.stem != "__main__"]
  named = {"unijax": ["unijax"], "all": every}.get(modules, ["unijax", "unijax.cli"])
  found = after_importing(*named)
  loaded = {m.split(".")[0] for m in found["modules"]}
  assert not loaded & set(HEAVY)
  assert not found["started"], "a module runs JAX while it is imported"
  if modules != "all":  # the help of the command line does not wait for JAX
    assert "jax" not in loaded


def test_report_needs_nothing_but_numpy_and_the_standard_library():
  names = [module_of(p) for p in (PACKAGE / "report").glob("*.py")]
  loaded = {m.split(".")[0] for m in after_importing(*names)["modules"]}
  assert not loaded & {"jax", "flax", "optax", "orbax", "grain", *HEAVY}
