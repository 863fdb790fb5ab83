"""Every config file, found by its place, and its tiny preset cut down for tests."""

import dataclasses

from tests.conftest import ROOT
from unijax import config_file
from unijax.commands import systems

FILES = systems.files(ROOT / "configs")


def load(name: str, preset: str = "tiny", **sections):
  """A preset of a system with other values in its sections."""
  c = config_file.load([f"--config={FILES[name]}:{preset}"])
  if c.data.tokenizer != "bytes":  # from wherever the tests are run
    file = {"tokenizer": str(ROOT / c.data.tokenizer)}
    sections["data"] = {**file, **sections.get("data", {})}
  changed = {k: dataclasses.replace(getattr(c, k), **v) for k, v in sections.items()}
  return dataclasses.replace(c, **changed)


def of_task(*names: str) -> list[str]:
  """Files whose tiny preset trains one of these tasks."""
  found = {name: load(name).train.task for name in FILES}
  return [name for name, task in found.items() if task in names]
