"""What the launchers have in common: their arguments, their jobs, scripts and tools."""

import argparse
import ast
import dataclasses
import math
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from unijax import config_file
from unijax.errors import ConfigError
from unijax.sweep import drive, points, study
from unijax.sweep.jobs import JobSpec, Resources, make_jobs
from unijax.sweep.trials import Found

TOOLS = {  # where a missing one comes from
  "sbatch": "it comes with Slurm: run this on a login node of the cluster",
  "xpk": "install it with `pip install xpk`, see github.com/AI-Hypercomputer/xpk",
  "gcloud": "install the Google Cloud CLI, see cloud.google.com/sdk/docs/install",
}


def parser(
  about: str, accelerator: str = "", *, script: bool = False
) -> argparse.ArgumentParser:
  """Returns a parser with the arguments of every launcher.

  Args:
    about: docstring of the launcher.
    accelerator: an example of one.
    script: whether it writes a script, which is only printed without --submit.
  """
  made = argparse.ArgumentParser(
    description=about, formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )  # fmt: skip
  add = made.add_argument
  add("--config", required=True, metavar="FILE[:preset]",
      help="its sweep() is launched, or the config itself without one")  # fmt: skip
  add("--root", required=True, type=pathlib.Path, help="folder of the run folders")
  add("--seeds", type=int, default=1, metavar="N", help="of each point; default 1")
  add("--retries", type=int, default=3, metavar="N",
      help="restarts after exit codes 75 and 76; default 3")  # fmt: skip
  add("--cpus", type=int, default=0, help="processors a host")
  add("--memory", type=int, default=0, metavar="GIB", help="a host")
  add("--env", action="append", default=[], metavar="NAME=VALUE")
  if accelerator:
    add("--accelerator", default="", metavar="TYPE:SHAPE", help=f"as {accelerator}")
  if script:
    add("--submit", action="store_true", help="not only print the script")
  return made


def arguments(made: argparse.ArgumentParser, argv=None):
  """Parses; returns (arguments, `--config.a.b=value` for all points).

  Exits with 2 on arguments that nobody knows.
  """
  args, rest = made.parse_known_args(argv)
  try:
    config_file.check_values(rest)
  except ConfigError as error:
    made.error(str(error))
  return args, rest


def resources(args, hosts: int = 1) -> Resources:
  """What the arguments ask for."""
  return Resources(getattr(args, "accelerator", ""), hosts, args.cpus, args.memory)


def slice_type(asked: Resources) -> tuple[str, int]:
  """What Google Cloud calls a slice of TPUs, and its hosts: "v5p:4x4x4" is v5p-128.

  Raises:
    ConfigError: it is no slice of TPUs.
  """
  from unijax.dryrun import topology

  if not asked.accelerator:
    raise ConfigError(f"--accelerator: name a slice, such as {topology.EXAMPLES}")
  try:
    name = topology.parse(asked.accelerator)
  except ConfigError as error:
    raise ConfigError(str(error).replace("--topology", "--accelerator")) from error
  if name.chip is None:
    raise ConfigError(f"--accelerator={asked.accelerator}: this launcher is for TPUs")
  called = {"v5e": "v5litepod-{}", "v5p": "v5p-{}"}.get(asked.kind, asked.kind + "-{}")
  cores = 2 if asked.kind == "v5p" else 1  # its names count cores, others chips
  return called.format(cores * name.devices), name.devices // math.prod(name.chip.host)


def has_sweep(config: str) -> bool:
  """Whether a config file has a function `sweep`.

  Raises:
    ConfigError: there is no such file, or it is no Python.
  """
  file = config.partition(":")[0]
  try:
    tree = ast.parse(pathlib.Path(file).read_text())
  except (OSError, SyntaxError) as error:
    raise ConfigError(f"config {file!r}: {error}") from error
  return any(isinstance(x, ast.FunctionDef) and x.name == "sweep" for x in tree.body)


def trial_jobs(args, overrides: Sequence[str], *, write: bool) -> list[JobSpec]:
  """Jobs that train and score the points of a sweep, where the root is at hand.

  They are the trials of `unijax sweep`: its status and table read what they leave.

  Args:
    args: of `parser`, with `flops` and `prompts`.
    overrides: for all points.
    write: the folders of the trials, and leave out those that are done; else all jobs
      are returned and nothing is written.

  Raises:
    ConfigError: of any point.
  """
  swept = study.load(args.config)
  trials = drive.planned(
    swept, overrides, flops=args.flops, seeds=args.seeds, prompts=args.prompts
  )
  if write:
    drive.prepare(args.root, drive.describe(swept, args.flops, overrides), trials)
    found = drive.left(args.root)
  else:
    found = [Found(trial, args.root / trial.name, "waiting") for trial in trials]
  return [_as_asked(drive.job(one, resources(args)), args) for one in found]


def train_jobs(
  args, overrides: Sequence[str], *, python: str, hosts: int = 1
) -> list[JobSpec]:
  """Jobs that train the points of a sweep, or the config itself where it has none.

  Args:
    args: of `parser`.
    overrides: for all points.
    python: the interpreter where the jobs run.
    hosts: that train a point together.

  Raises:
    ConfigError: of any point; one with FLOPs, which only `trial_jobs` can spend.
  """
  more = ("--processes=auto",) if hosts > 1 else ()
  how = {"python": python, "more": more, "overrides": overrides}
  what = {"resources": resources(args, hosts)}
  if not has_sweep(args.config):
    seeds = [("base", {})] if args.seeds == 1 else [
      (f"seed={n}", {"seed": n}) for n in range(args.seeds)
    ]  # fmt: skip
    made = make_jobs(args.config, seeds, args.root, **how, **what)
    return [_as_asked(job, args) for job in made]
  swept, jobs = study.load(args.config), {}
  for point in swept.points:
    if points.FLOPS in point:
      raise ConfigError(
        f"point {point}: FLOPs are counted where the run folders are at hand: use "
        "`unijax sweep run`, or launch/xm.py with the local executor"
      )
    resolved = study.resolve(swept, point, overrides)
    own = {path: value for path, value in point.items() if path != points.CONFIG}
    file = str(point.get(points.CONFIG, args.config))
    if ":" not in file and swept.preset:
      file = f"{file}:{swept.preset}"
    for seed in range(resolved.seed, resolved.seed + args.seeds):
      name = points.name_of(dataclasses.replace(resolved, seed=seed))
      named = [(name, {**own, points.SEED: seed} if args.seeds > 1 else own)]
      jobs.setdefault(name, make_jobs(file, named, args.root, **how, **what)[0])
  return [_as_asked(job, args) for job in jobs.values()]


def _as_asked(job: JobSpec, args) -> JobSpec:
  """A job with the restarts and environment of the arguments."""
  pairs = tuple(tuple(word.partition("=")[::2]) for word in args.env)
  for word, (name, _) in zip(args.env, pairs, strict=True):
    if "=" not in word or not name.isidentifier():
      raise ConfigError(f"--env {word!r} is not NAME=VALUE")
  return dataclasses.replace(job, retries=args.retries, env=pairs)


def line(words: Sequence[str]) -> str:
  """One command for a shell, every word quoted, on as many lines as it needs."""
  rows: list[str] = []
  for word in map(shlex.quote, words):
    if rows and len(rows[-1]) + len(word) < 80:
      rows[-1] += f" {word}"
    else:
      rows.append(word)
  return " \\\n  ".join(rows)


def with_env(job: JobSpec) -> tuple[str, ...]:
  """The command of a job, with its environment set by `env`."""
  pairs = [f"{name}={value}" for name, value in job.env]
  return ("env", *pairs, *job.command) if pairs else job.command


def need(tool: str) -> str:
  """Returns the path of a tool.

  Raises:
    ConfigError: it is not there; how to get it.
  """
  path = shutil.which(tool)
  if path is None:
    raise ConfigError(f"{tool} is not on PATH: {TOOLS[tool]}")
  return path


def submit(script: str, tool: str, place: pathlib.Path, command: Sequence[str]) -> int:
  """Writes a script, and runs a command on it; returns its exit code.

  Raises:
    ConfigError: the tool that the script needs is not there.
  """
  need(tool)
  place.parent.mkdir(parents=True, exist_ok=True)
  place.write_text(script)
  place.chmod(0o755)
  print(f"wrote {place}; running {shlex.join(command)}", file=sys.stderr)
  return subprocess.run(command).returncode


def print_or_run(script: str, args, tool: str, place: str) -> int:
  """Prints a script for bash; with --submit writes it and runs it. See `submit`."""
  if args.submit:
    return submit(script, tool, pathlib.Path(place), ["bash", place])
  print(script, end="")
  return 0


def main(made: argparse.ArgumentParser, run, argv=None) -> None:
  """Runs a launcher and exits: `run(args, overrides)` returns the exit code."""
  args, overrides = arguments(made, argv)
  try:
    code = run(args, overrides)
  except ConfigError as error:
    made.exit(2, f"{made.prog}: {error}\n")
  sys.exit(code)
