"""Runs a config, or its sweep, on the hosts of one Cloud TPU slice, over ssh.

  python launch/tpu_vm.py --config=configs/transfusion.py:7B --root=/mnt/runs/7B \\
    --accelerator=v5p:4x4x4 --tpu=my-slice --gcloud=--zone=us-east5-a
  python launch/tpu_vm.py ... --submit

Without --submit it only prints the script: how the slice is made (as a comment), and
`gcloud compute tpus tpu-vm ssh --worker=all` for each point, one after the other.
With it, the script is written to ./tpu-TPU.sh and run. --folder is where unijax lies
on every host; --root is a folder that all hosts see, such as a mounted bucket.

A host starts training again after exit codes 75 (SIGTERM, after saving) and 76 (a
hang), at most --retries times. A point that fails does not stop those after it; the
script then ends with 1. A slice that was preempted has to be made again; the same
command goes on.
"""

import shlex
from collections.abc import Sequence

from unijax.sweep import launching
from unijax.sweep.jobs import JobSpec

HOST = """\
cd {folder} || exit 1
restarts=0
while :; do
  code=0
  {command} || code=$?
  case "$code" in
  {codes})
    restarts=$((restarts + 1))
    if [ "$restarts" -gt {retries} ]; then exit "$code"; fi
    echo "exit code $code, restart $restarts of {retries}" >&2 ;;
  *) exit "$code" ;;
  esac
done
"""


def on_host(job: JobSpec, folder: str) -> str:
  """What a shell on every host runs for a job."""
  place = shlex.quote(folder)
  if folder == "~" or folder.startswith("~/"):  # quoted, it would stay a ~
    place = '"$HOME"' + (f"/{shlex.quote(folder[2:])}" if folder[2:] else "")
  return HOST.format(
    folder=place, command=shlex.join(launching.with_env(job)), retries=job.retries,
    codes="|".join(map(str, job.requeue)),
  )  # fmt: skip


def script(jobs: Sequence[JobSpec], args) -> str:
  """Returns a script that trains one job after the other on all hosts."""
  slice_type, hosts = launching.slice_type(jobs[0].resources)
  create = [
    "gcloud", "compute", "tpus", "tpu-vm", "create", args.tpu,
    f"--accelerator-type={slice_type}", "--version=VERSION", *args.gcloud,
  ]  # fmt: skip
  lines = [
    "#!/usr/bin/env bash",
    f"# The slice {args.tpu}: {slice_type}, {hosts} hosts. It is made by",
    *(f"#   {x}" for x in launching.line(create).splitlines()),
    "set -uo pipefail",
    "failed=0",
  ]
  for number, job in enumerate(jobs, 1):
    words = [
      "gcloud", "compute", "tpus", "tpu-vm", "ssh", args.tpu, "--worker=all",
      *args.gcloud, f"--command={on_host(job, args.folder)}",
    ]  # fmt: skip
    told = shlex.quote(f"[{number}/{len(jobs)}] {job.name}: exit code ")
    lines += [
      "", launching.line(words), "code=$?", f'echo {told}"$code" >&2',
      '[ "$code" -eq 0 ] || failed=1',
    ]  # fmt: skip
  return "\n".join([*lines, "", 'exit "$failed"']) + "\n"


def run(args, overrides: Sequence[str]) -> int:
  """Prints the script, or runs it; returns the exit code."""
  _, hosts = launching.slice_type(launching.resources(args))
  jobs = launching.train_jobs(args, overrides, python=args.python, hosts=hosts)
  return launching.print_or_run(
    script(jobs, args), args, "gcloud", f"tpu-{args.tpu}.sh"
  )


def main(argv: list[str] | None = None) -> None:
  """Parses the arguments and runs."""
  made = launching.parser(__doc__, "v5p:4x4x4", script=True)
  made.add_argument("--tpu", required=True, help="name of the slice")
  made.add_argument(
    "--folder", default="~/unijax", help="on the hosts; default %(default)s"
  )
  made.add_argument(
    "--python", default="python3", help="on the hosts; default %(default)s"
  )
  made.add_argument("--gcloud", action="append", default=[], metavar="OPTION",
                    help="more for gcloud, as --gcloud=--zone=us-east5-a")  # fmt: skip
  launching.main(made, run, argv)


if __name__ == "__main__":
  main()
