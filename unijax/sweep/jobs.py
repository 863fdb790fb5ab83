"""Jobs: what every launcher consumes, and how points of a config become a list of them.

A job is one `unijax train` in a run folder of its own. It knows nothing of where it
runs: the pool of this machine, XManager, Slurm and GKE take the same list.
"""

import ast
import dataclasses
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from unijax import config_file
from unijax.config import ConfigError, from_config_dict, to_dict

RESTART = (75, 76)  # stopped by SIGTERM after saving; left on a hang: both go on


@dataclasses.dataclass(frozen=True)
class Resources:
  """What one job needs where others ask for it; the pool of this machine reads none.

  Attributes:
    accelerator: TYPE:TOPOLOGY such as "v5p:4x4x4", TYPE:COUNT such as "h100:8", or ""
      for processors alone.
    hosts: machines that run the job together; 0 is what the topology has.
    cpus: processors a host; 0 leaves it to the machine.
    memory_gib: main memory a host in GiB; 0 leaves it to the machine.
  """

  accelerator: str = ""
  hosts: int = 0
  cpus: int = 0
  memory_gib: int = 0

  def __post_init__(self):
    wrong = [
      f"{name} {value}"
      for name in ("hosts", "cpus", "memory_gib")
      if (value := getattr(self, name)) < 0
    ]
    if wrong:
      raise ConfigError(f"resources: {', '.join(wrong)}: give 0 or more")
    if self.accelerator and not re.fullmatch(
      r"[a-z0-9-]+:\d+(x\d+)*", self.accelerator
    ):
      raise ConfigError(
        f"accelerator {self.accelerator!r}: give TYPE:TOPOLOGY such as v5p:4x4x4, or "
        "TYPE:COUNT such as h100:8"
      )

  @property
  def kind(self) -> str:
    """'v5p' of 'v5p:4x4x4'; '' for processors alone."""
    return self.accelerator.partition(":")[0]

  @property
  def topology(self) -> str:
    """'4x4x4' of 'v5p:4x4x4'; '' for processors alone."""
    return self.accelerator.partition(":")[2]

  @property
  def chips(self) -> int:
    """Accelerators of all hosts together; 0 for processors alone."""
    count = 1 if self.accelerator else 0
    for side in self.topology.split("x") if self.topology else ():
      count *= int(side)
    return count


@dataclasses.dataclass(frozen=True)
class JobSpec:
  """One trial.

  Attributes:
    name: of its run folder, and of the job wherever it runs.
    command: its arguments, the program first; nothing in it is read by a shell.
    workdir: its run folder.
    env: (name, value) pairs that are set besides what the place of the job sets.
    resources: what it needs.
    retries: how often it is started again after an exit code of `requeue`.
    requeue: exit codes after which the same command goes on.
    config: digest of every knob; a folder that is done with another is not this trial.
  """

  name: str
  command: tuple[str, ...]
  workdir: str
  env: tuple[tuple[str, str], ...] = ()
  resources: Resources = Resources()
  retries: int = 3
  requeue: tuple[int, ...] = RESTART
  config: str = ""


def make_jobs(
  config: str,
  points: Iterable[tuple[str, Mapping[str, Any]]],
  root: str | pathlib.Path,
  *,
  overrides: Sequence[str] = (),
  python: str = sys.executable,
  more: Sequence[str] = (),
  **spec: Any,
) -> list[JobSpec]:
  """Returns the jobs of named points, each looked at as its training will read it.

  Args:
    config: FILE[:preset].
    points: (name, {dotted path: value}) of each; {} is the config itself.
    root: folder of the run folders.
    overrides: `--config.a.b=value` for all of them; a point's own values win.
    python: the interpreter where the jobs run.
    more: other arguments of `unijax train`.
    **spec: further fields of JobSpec.

  Raises:
    ConfigError: no points; two of one name, or a name that is no folder; a value that
      a command line cannot give; a path that the config has not; or a point that is no
      valid config: which one is said.
  """
  jobs: list[JobSpec] = []
  for name, point in points:
    _check_name(name)
    if any(name.lower() == job.name.lower() for job in jobs):
      raise ConfigError(f"two points would share the run folder {name!r}")
    own = arguments_of(point)
    knobs = {x.partition("=")[0] for x in own}
    common = [x for x in overrides if x.partition("=")[0] not in knobs]
    arguments = [f"--config={config}", *common, *own]
    try:
      read = config_file.read(arguments)
      _check_read(point, read)
      digest = _digest(read)
    except ConfigError as error:
      raise ConfigError(f"point {name}: {error}") from error
    workdir = str(pathlib.Path(root) / name)
    command = [python, "-m", "unijax", "train", arguments[0], f"--workdir={workdir}"]
    command += [*more, *arguments[1:]]
    jobs.append(JobSpec(name, tuple(command), workdir, config=digest, **spec))
  if not jobs:
    raise ConfigError(f"{config}: the sweep has no points, so there is nothing to run")
  return jobs


def arguments_of(point: Mapping[str, Any]) -> list[str]:
  """Returns `--config.path=value` for each value, as `config_file` reads it back.

  Raises:
    ConfigError: a value that a command line cannot give, or a path that is none.
  """
  return [f"--config.{_path(path)}={render(path, v)}" for path, v in point.items()]


def render(path: str, value: Any) -> str:
  """Returns the text of a value: strings as they are, all else as Python writes it.

  Raises:
    ConfigError: a value that a command line cannot give.
  """
  if isinstance(value, list):
    value = tuple(value)
  text = value if isinstance(value, str) else repr(value)
  if "\0" in text:
    raise ConfigError(f"{path}: {value!r} holds a NUL, which no command line takes")
  if not isinstance(value, str | bool | int | float | None):
    try:
      ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
      raise ConfigError(
        f"{path}: {value!r} cannot be given on a command line: use strings, numbers, "
        "True or False, None and tuples of these"
      ) from error
  return text


def spread(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
  """{'a': {'b': 1}} -> {'a.b': 1}."""
  flat: dict[str, Any] = {}
  for name, value in values.items():
    path = f"{before}{name}"
    flat |= spread(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
  return flat


def _digest(config: ConfigDict) -> str:
  """A short hash of the resolved config.

  Raises:
    ConfigError: it is not valid.
  """
  text = json.dumps(to_dict(from_config_dict(config)), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(path: str) -> str:
  if not re.fullmatch(r"\w+(\.\w+)*", path):
    raise ConfigError(f"{path!r} is no path of a knob: write section.knob")
  return path


def _check_name(name: str) -> None:
  if len(name) > 200 or not re.fullmatch(r"\w[\w.=,+-]*", name, re.ASCII):
    raise ConfigError(
      f"{name!r} is no name of a run folder: at most 200 of letters, digits and "
      "_.=,+- with a letter, digit or _ first"
    )


def _check_read(point: Mapping[str, Any], config: ConfigDict) -> None:
  """What was read must be what was meant, or a trial would train something else.

  Raises:
    ConfigError: naming the value that was read differently.
  """
  read = spread(config.to_dict())
  for path, value in point.items():
    wanted = spread({path: value})
    for here, meant in wanted.items():
      if here not in read or not _same(read[here], meant):
        raise ConfigError(
          f"{here}: {meant!r} is read back from the command line as "
          f"{read.get(here)!r}; set it in a preset of the config file instead"
        )


def _same(read: Any, meant: Any) -> bool:
  """Equal in type too, but for whole numbers as floats and lists as tuples."""
  if isinstance(meant, list | tuple):
    return (
      isinstance(read, list | tuple)
      and len(read) == len(meant)
      and all(map(_same, read, meant))
    )
  if isinstance(read, float) and type(meant) is int:
    return read == meant
  return type(read) is type(meant) and read == meant
