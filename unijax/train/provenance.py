"""run.json: what made a run, so that it can be made again; one entry a start.

It has the command line, the versions of all packages, the commit of the code and
whether its files differed from it, and how the config differs from configs/base.py.
Nothing of the environment is in it.
"""

import datetime
import functools
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import unijax
from unijax import config as config_lib
from unijax.config import Config
from unijax.disk import write_whole

FILE = "run.json"


def record(workdir: pathlib.Path, config: Config, step: int) -> None:
  """Adds this start of a run to its run.json.

  Args:
    workdir: the run directory.
    config: of the run.
    step: at which it starts.
  """
  path = workdir / FILE
  try:
    starts = json.loads(path.read_text())["starts"]
  except (OSError, ValueError, KeyError, TypeError):
    starts = []  # none, or damaged: no reason not to train
  starts.append({
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "step": step, "command": [sys.executable, *sys.argv], "folder": os.getcwd(),
    **_code(), "config_from_base": from_base(config),
  })  # fmt: skip
  write_whole(path, json.dumps({"starts": starts}, indent=1) + "\n")


@functools.cache
def _code() -> dict[str, Any]:
  """Of the code of this process, which has read it already."""
  return {"git": git(pathlib.Path(unijax.__file__).parent), "packages": packages()}


def git(folder: pathlib.Path) -> dict[str, Any] | None:
  """Commit of a checkout and whether its tracked files differ; None outside of one."""
  commit = _git(folder, "rev-parse", "HEAD")
  if commit is None:
    return None
  changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
  return {"commit": commit, "dirty": changed is None or bool(changed)}


def packages() -> dict[str, str]:
  """Versions of all installed packages, by name."""
  found = {}
  for one in importlib.metadata.distributions():
    if name := one.metadata["Name"]:
      found.setdefault(name, one.version)  # the first is the one that is imported
  return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def from_base(config: Config) -> list[str] | None:
  """A line for each knob that configs/base.py sets otherwise; None without the file."""
  try:
    base = importlib.import_module("configs.base").get_config().to_dict()
  except ImportError:
    return None
  plain = json.loads(json.dumps(config_lib.to_dict(config)))
  return config_lib.difference(json.loads(json.dumps(base)), plain)


def _git(folder: pathlib.Path, *words: str) -> str | None:
  try:
    done = subprocess.run(
      ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=30
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() if done.returncode == 0 else None
