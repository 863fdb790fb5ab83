"""Runs a config, or its sweep, as an experiment of XManager.

  python launch/xm.py --config=configs/studies/mask.py:tiny --root=runs/mask --slots=2
  python launch/xm.py --config=configs/transfusion.py:0.16B --root=/gcs/BUCKET/runs \\
    --executor=vertex --accelerator=a100:8
  python launch/xm.py --config=... --root=/mnt/runs --executor=kubernetes \\
    --accelerator=h100:8 --image=REGISTRY/unijax:1

Needs the extra: pip install 'unijax[xm]'.

local: here, without Docker. A work unit is one trial, trained and scored once, in
ROOT/NAME; `unijax sweep status ROOT` and `unijax sweep table ROOT` read what it leaves,
and the same command does what is left. --slots work units run at a time. Ctrl-C and
SIGTERM go on to them: they save.

vertex, kubernetes: in a container that is made of this folder, all of it (be in a clean
clone), or is --image; one `unijax train` a point; --root is a folder of the container,
such as /gcs/BUCKET/... on Vertex. --dry-run prints the Dockerfile and the arguments of
every work unit. XManager asks Vertex for TPUs of v2 and v3 alone, and Kubernetes for
none: see launch/xpk.py.

XManager keeps its own list of experiments in ~/.xmanager.
"""

import asyncio
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Sequence

from unijax.errors import ConfigError
from unijax.sweep import alone, launching
from unijax.sweep.jobs import JobSpec, Resources
from unijax.sweep.pool import STOPPED, finished

EXECUTORS = ("local", "vertex", "kubernetes")
BINARY = """\
#!/usr/bin/env bash
# What XManager starts for each trial, with its run folder and the launcher's number.
cd {here} && exec {python} -m unijax.sweep.alone "$@"
"""
INSTRUCTIONS = (  # of the image, on top of --base-image
  "ENV LANG=C.UTF-8",
  "COPY {name}/ /{name}",
  "WORKDIR /{name}",
  "RUN python -m pip install --no-cache-dir '.{extra}'",
)


def import_xm():
  """Returns XManager's modules.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    from absl import flags
    from xmanager import xm, xm_local
  except ImportError as error:
    raise ConfigError(
      f"XManager is not installed ({error}): pip install 'unijax[xm]'"
    ) from error
  if not flags.FLAGS.is_parsed():  # it reads flags of its own
    flags.FLAGS(sys.argv[:1])
  return xm, xm_local


def requirements(xm, asked: Resources, executor: str):
  """What XManager is asked for.

  Raises:
    ConfigError: an accelerator that it does not know, or not there.
  """
  wants = {}
  if asked.cpus:
    wants["cpu"] = asked.cpus * xm.vCPU
  if asked.memory_gib:
    wants["memory"] = asked.memory_gib * xm.GiB
  if not asked.accelerator:
    return xm.JobRequirements(**wants)
  tpu = (
    asked.kind.startswith("v") and asked.kind[1:2].isdigit() and asked.kind != "v100"
  )
  name = ("tpu_" if tpu else "") + asked.kind.replace("-", "_")
  try:
    kind = xm.ResourceType[name]
  except KeyError as error:
    known = ", ".join(sorted(str(x).lower() for x in xm.AcceleratorType))
    raise ConfigError(
      f"--accelerator={asked.accelerator}: XManager does not know {name}; it knows "
      f"{known}"
    ) from error
  may = {"vertex": ("tpu_v2", "tpu_v3"), "kubernetes": ()}[executor]
  if kind in xm.TpuType and name not in may:
    raise ConfigError(
      f"--accelerator={asked.accelerator}: XManager cannot ask {executor} for it; "
      "launch/xpk.py and launch/tpu_vm.py can"
    )
  shape = asked.topology
  wants[name] = xm.Topology(shape) if "x" in shape else int(shape)
  return xm.JobRequirements(**wants)


async def run_here(jobs: Sequence[JobSpec], args) -> list[str]:
  """Runs all jobs on this machine, --slots at a time; returns names of the failed."""
  xm, xm_local = import_xm()
  program = args.root / "xm.sh"
  program.parent.mkdir(parents=True, exist_ok=True)
  here, python = shlex.quote(os.getcwd()), shlex.quote(sys.executable)
  program.write_text(BINARY.format(here=here, python=python))
  program.chmod(0o755)
  slots, failed = asyncio.Semaphore(args.slots), []
  async with xm_local.create_experiment(args.name) as experiment:
    (executable,) = experiment.package(
      [xm.binary(xm_local.Local.Spec(), path=str(program))]
    )

    async def one(job: JobSpec) -> None:
      async with slots:
        alone.write(job)
        words = [job.workdir, str(os.getpid())]
        unit = await experiment.add(
          xm.Job(executable, xm_local.Local(), args=words, name=job.name)
        )
        try:
          await unit.wait_until_complete()
        except xm.ExperimentUnitError:
          failed.append(job.name)

    await asyncio.gather(*(one(job) for job in jobs))
  return failed


def here(jobs: Sequence[JobSpec], args) -> int:
  """The executor `local`; returns the exit code."""

  def stop(number, frame):
    raise KeyboardInterrupt

  # For Ctrl-C, too: asyncio's own handler cancels only what waits for the trials, and
  # XManager then waits for them once more.
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
  failed: list[str] = []
  try:
    failed = asyncio.run(run_here(jobs, args))
  except KeyboardInterrupt:
    print("stopped; the trials save, and the same command goes on", file=sys.stderr)
    return STOPPED  # XManager sends SIGTERM to what still runs, as this process ends
  except RuntimeError as error:  # of a work unit that failed, once more at the end
    if "non-zero code" not in str(error):
      raise
  undone = [job.name for job in jobs if finished(job) is None]
  for name in undone:
    print(f"{name}: not done, see {args.root}/*/job.log", file=sys.stderr)
  print(f"{len(jobs) - len(undone)} of {len(jobs)} trials are done in {args.root}")
  return 1 if undone or failed else 0


def package(xm, spec, args, jobs: Sequence[JobSpec]):
  """The container: --image, or one made of this folder."""
  if args.image:
    return xm.container(spec, image_path=args.image)
  folder = pathlib.Path.cwd()
  kind = jobs[0].resources.kind
  extra = "[tpu]" if kind[:1] == "v" and kind != "v100" else "[cuda]" if kind else ""
  return xm.python_container(
    spec, path=str(folder), base_image=args.base_image,
    entrypoint=xm.CommandList(['exec "$@"']),
    docker_instructions=[x.format(name=folder.name, extra=extra) for x in INSTRUCTIONS],
  )  # fmt: skip


def dry_run(xm, packageable, jobs: Sequence[JobSpec]) -> None:
  """Prints what would be built and run."""
  made = packageable.executable_spec
  if isinstance(made, xm.PythonContainer):
    print(f"FROM {made.base_image}\n" + "\n".join(made.docker_instructions) + "\n")
  else:
    print(f"FROM {made.image_path}\n")
  for job in jobs:
    print(f"# {job.name}\n{launching.line(launching.with_env(job))}")


def away(jobs: Sequence[JobSpec], args) -> int:
  """The executors vertex and kubernetes; returns the exit code."""
  xm, xm_local = import_xm()
  kind = {"vertex": xm_local.Vertex, "kubernetes": xm_local.Kubernetes}[args.executor]
  executor = kind(requirements=requirements(xm, jobs[0].resources, args.executor))
  packageable = package(xm, kind.Spec(), args, jobs)
  if args.dry_run:
    dry_run(xm, packageable, jobs)
    return 0
  with xm_local.create_experiment(args.name) as experiment:
    (executable,) = experiment.package([packageable])
    for job in jobs:
      words = list(job.command)
      experiment.add(
        xm.Job(executable, executor, args=words, env_vars=dict(job.env), name=job.name)
      )
  return 0


def run(args, overrides: Sequence[str]) -> int:
  """Runs the jobs on the executor; returns the exit code."""
  if args.executor not in EXECUTORS:
    raise ConfigError(
      f"--executor={args.executor}: unknown; known are {', '.join(EXECUTORS)}"
    )
  if args.slots < 1:
    raise ConfigError(f"--slots={args.slots}: give 1 or more")
  import_xm()  # before anything is written
  if args.executor != "local":
    return away(launching.train_jobs(args, overrides, python="python3"), args)
  args.root = args.root.absolute()
  if launching.has_sweep(args.config):
    jobs = launching.trial_jobs(args, overrides, write=not args.dry_run)
  else:
    jobs = launching.train_jobs(args, overrides, python=sys.executable)
  if args.dry_run:
    for job in jobs:
      print(f"# {job.name}\n{launching.line(launching.with_env(job))}")
    return 0
  if not jobs:
    print(f"all trials are done in {args.root}")
    return 0
  return here(jobs, args)


def main(argv: list[str] | None = None) -> None:
  """Parses the arguments and runs."""
  made = launching.parser(__doc__, "h100:8 or v5p:4x4x4")
  made.add_argument("--executor", default="local", help="or vertex, kubernetes")
  made.add_argument("--name", default="unijax", help="of the experiment")
  made.add_argument("--slots", type=int, default=1, help="trials at a time; local")
  made.add_argument("--flops", type=float, help="of each training; local")
  made.add_argument("--eval-prompts", dest="prompts", type=int, default=100)
  made.add_argument("--image", default="", help="of a container; vertex, kubernetes")
  made.add_argument("--base-image", default="python:3.12-slim", help="that is built on")
  made.add_argument("--dry-run", action="store_true", help="only show what would run")
  launching.main(made, run, argv)


if __name__ == "__main__":
  main()
