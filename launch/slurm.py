"""Runs a config, or its sweep, on a Slurm cluster as an array job.

  python launch/slurm.py --config=configs/studies/mask.py:tiny --root=runs/mask \\
    --accelerator=h100:1 --time=04:00:00 --at-once=4
  python launch/slurm.py --config=configs/transfusion.py:7B --root=runs/7B \\
    --accelerator=h100:8 --hosts=4 --sbatch=--partition=big --submit

Without --submit it only prints the script. With it, the script is written to
ROOT/slurm.sh and given to sbatch. ROOT and this folder must be on a file system that
the nodes share.

Two minutes before the end of its time, and when Slurm preempts it, a trial gets
SIGTERM, saves and ends with 75; after 75 or 76 it is queued again, at most --retries
times. On one host a trial of a sweep is trained and scored, and `unijax sweep status
ROOT` and `unijax sweep table ROOT` read what it leaves. With --hosts each point is one
`unijax train`, a process a host.
"""

import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Sequence

from unijax.errors import ConfigError
from unijax.sweep import alone, launching
from unijax.sweep.jobs import JobSpec

SAVE = 120  # seconds that a trial has to save
# Only this shell is told of the end of its time, so it passes that on; srun would
# answer SIGTERM with killing the step. `wait` returns when a signal comes, and then not
# with the code of the trial, hence the loop.
END = """\
child= told=
pass_on() {
  told=1
  if [[ -n "$child" ]]; then %(signal)s 2>/dev/null || true; fi
}
trap pass_on TERM
%(start)s"${command[@]}" & child=$!
if [[ -n "$told" ]]; then pass_on; fi  # it came before there was anybody to tell
told=1
while [[ -n "$told" ]]; do
  told= code=0
  wait "$child" || code=$?
done
case "$code" in
%(codes)s)
  if (( ${SLURM_RESTART_COUNT:-0} < %(retries)d )); then
    echo "exit code $code: queued again" >&2
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
  fi
  ;;
esac
exit "$code"
"""


def script(jobs: Sequence[JobSpec], args) -> str:
  """Returns the batch script: its options, one command a trial, what restarts it."""
  asked, many = jobs[0].resources, args.hosts > 1
  last = f"0-{len(jobs) - 1}" + (f"%{args.at_once}" if args.at_once else "")
  log = pathlib.Path(args.root).resolve() / "slurm" / "%A_%a.log"
  options = [
    f"--job-name={args.name}", f"--array={last}", f"--nodes={args.hosts}",
    "--ntasks-per-node=1", f"--signal=B:TERM@{SAVE}", "--requeue", "--open-mode=append",
    f"--output={log}", f"--chdir={pathlib.Path.cwd()}", f"--time={args.time}",
  ]  # fmt: skip
  if asked.accelerator:
    if asked.kind.startswith(("v", "tpu")) or "x" in asked.topology:
      raise ConfigError(
        f"--accelerator={asked.accelerator}: Slurm has GPUs, TYPE:COUNT a host such as "
        "h100:8; for TPUs see launch/xpk.py and launch/tpu_vm.py"
      )
    options.append(f"--gres=gpu:{asked.accelerator}")
  if asked.cpus:
    options.append(f"--cpus-per-task={asked.cpus}")
  if asked.memory_gib:
    options.append(f"--mem={asked.memory_gib}G")
  lines = ["#!/usr/bin/env bash"]
  lines += [f"#SBATCH {shlex.quote(option)}" for option in (*options, *args.sbatch)]
  lines += ["set -euo pipefail", 'case "$SLURM_ARRAY_TASK_ID" in']
  for number, job in enumerate(jobs):
    command = launching.with_env(job)
    if not many:
      command = (job.command[0], "-m", "unijax.sweep.alone", job.workdir)
    lines.append(f"{number}) command=({launching.line(command)}) ;;  # {job.name}")
  lines += ['*) echo "no trial $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;', "esac"]
  codes = "|".join(map(str, jobs[0].requeue))
  lines.append(END % {
    "codes": codes, "retries": jobs[0].retries,
    "start": "srun --kill-on-bad-exit=1 " if many else "",
    "signal": 'scancel --signal=TERM "$SLURM_JOB_ID"' if many else 'kill "$child"',
  })  # fmt: skip
  return "\n".join(lines)


def run(args, overrides: Sequence[str]) -> int:
  """Prints the script, or submits it; returns the exit code."""
  if args.hosts < 1:
    raise ConfigError(f"--hosts={args.hosts}: give 1 or more")
  args.root = args.root.absolute()
  if args.hosts == 1 and launching.has_sweep(args.config):
    jobs = launching.trial_jobs(args, overrides, write=args.submit)
  else:
    jobs = launching.train_jobs(
      args, overrides, python=sys.executable, hosts=args.hosts
    )
  if not jobs:
    print("all trials are done", file=sys.stderr)
    return 0
  text = script(jobs, args)
  if not args.submit:
    print(text, end="")
    return 0
  launching.need("sbatch")
  if args.hosts == 1:
    for job in jobs:  # Slurm restarts it, not the pool
      alone.write(dataclasses.replace(job, retries=0))
  (args.root / "slurm").mkdir(parents=True, exist_ok=True)
  place = args.root / "slurm.sh"
  return launching.submit(text, "sbatch", place, ["sbatch", str(place)])


def main(argv: list[str] | None = None) -> None:
  """Parses the arguments and runs."""
  made = launching.parser(__doc__, "h100:8, a host", script=True)
  made.add_argument("--hosts", type=int, default=1, help="that train a point together")
  made.add_argument("--at-once", type=int, default=0, help="trials; default all")
  made.add_argument(
    "--time", default="24:00:00", help="of a trial; default %(default)s"
  )
  made.add_argument("--name", default="unijax", help="of the job")
  made.add_argument("--flops", type=float, help="of each training, in place of steps")
  made.add_argument("--eval-prompts", dest="prompts", type=int, default=100)
  made.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                    help="more for sbatch, as --sbatch=--partition=gpu")  # fmt: skip
  launching.main(made, run, argv)


if __name__ == "__main__":
  main()
