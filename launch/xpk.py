"""Runs a config, or its sweep, on TPU slices of a GKE cluster, through xpk.

  python launch/xpk.py --config=configs/transfusion.py:7B --root=/mnt/runs/7B \\
    --accelerator=v5p:4x4x4 --slices=2 --cluster=c --image=gcr.io/PROJECT/unijax:1
  python launch/xpk.py ... --xpk=--zone=us-east5-a --xpk=--priority=high --submit

Without --submit it only prints the script, one `xpk workload create` a point. With it,
the script is written to ./xpk-NAME.sh and run. The image holds unijax and the config
files, and starts in their folder; --root is a folder that all hosts see, such as a
bucket that the cluster mounts. Each point is one `unijax train`, a process a host.

A workload that ends with 75 (SIGTERM, after saving) or 76 (a hang) is restarted by the
cluster, at most --retries times, and resumes.
"""

import re
import shlex
from collections.abc import Sequence

from unijax.errors import ConfigError
from unijax.sweep import launching
from unijax.sweep.jobs import JobSpec

SAVE = 120  # seconds that a trial has to save
LONGEST = 40  # letters of the name of a workload


def workload(name: str, job: JobSpec) -> str:
  """A name as Kubernetes takes it, of the launch and of the run folder."""
  text = re.sub(r"[^a-z0-9]+", "-", f"{name}-{job.name}".lower()).strip("-")
  return text[:LONGEST].strip("-")


def script(jobs: Sequence[JobSpec], args) -> str:
  """Returns a script with one `xpk workload create` a job.

  Raises:
    ConfigError: names that are none, or that become the same.
  """
  slice_type, _ = launching.slice_type(jobs[0].resources)
  if not re.match("[a-z]", args.name):
    raise ConfigError(f"--name={args.name}: begin with a small letter")
  names = [workload(args.name, job) for job in jobs]
  if len(set(names)) < len(names):
    raise ConfigError(f"--name={args.name}: too long, points would share a workload")
  lines = ["#!/usr/bin/env bash", "set -euo pipefail"]
  for name, job in zip(names, jobs, strict=True):
    words = [
      "xpk", "workload", "create", f"--workload={name}", f"--cluster={args.cluster}",
      f"--tpu-type={slice_type}", f"--num-slices={args.slices}",
      f"--docker-image={args.image}", f"--max-restarts={job.retries}",
      f"--restart-on-exit-codes={','.join(map(str, job.requeue))}",
      f"--termination-grace-period-seconds={SAVE}",
      *(f"--env={key}={value}" for key, value in job.env), *args.xpk,
      # xpk gives this to a shell of the container; `exec` lets SIGTERM reach training.
      f"--command=exec {shlex.join(job.command)}",
    ]  # fmt: skip
    lines += ["", f"# {job.name}", launching.line(words)]
  return "\n".join(lines) + "\n"


def run(args, overrides: Sequence[str]) -> int:
  """Prints the script, or runs it; returns the exit code."""
  _, hosts = launching.slice_type(launching.resources(args))
  jobs = launching.train_jobs(
    args, overrides, python="python3", hosts=max(hosts * args.slices, 2)
  )
  return launching.print_or_run(script(jobs, args), args, "xpk", f"xpk-{args.name}.sh")


def main(argv: list[str] | None = None) -> None:
  """Parses the arguments and runs."""
  made = launching.parser(__doc__, "v5p:4x4x4, one slice", script=True)
  made.add_argument("--cluster", required=True, help="of GKE, made by xpk")
  made.add_argument("--image", required=True, help="of a container with unijax")
  made.add_argument("--slices", type=int, default=1, help="that train a point together")
  made.add_argument("--name", default="unijax", help="begins the names of workloads")
  made.add_argument("--xpk", action="append", default=[], metavar="OPTION",
                    help="more for `xpk workload create`, as --xpk=--spot")  # fmt: skip
  launching.main(made, run, argv)


if __name__ == "__main__":
  main()
