"""Runs one job where another system starts it: XManager, or Slurm on one host.

  python -m unijax.sweep.alone WORKDIR [LAUNCHER]

The job is in WORKDIR/job-spec.json. It is run by the pool of one slot, with its lock,
log, record and restarts, so that `unijax sweep status` shows it as any other trial. The
exit code is the job's own, so that the other system may restart it. LAUNCHER is the
process without which the job is to save and end, and which reads job.json; 0 is none.
"""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import threading
import time

from unijax.disk import write_whole
from unijax.sweep import hold
from unijax.sweep.board import Board
from unijax.sweep.jobs import JobSpec, Resources
from unijax.sweep.pool import STOPPED, Pool

SPEC = "job-spec.json"


def write(job: JobSpec) -> pathlib.Path:
  """Writes a job into its run folder, which is made; returns the file."""
  path = pathlib.Path(job.workdir) / SPEC
  write_whole(path, json.dumps(dataclasses.asdict(job), indent=1) + "\n")
  return path


def read(workdir: str | pathlib.Path) -> JobSpec:
  """Returns the job of a run folder."""
  values = json.loads((pathlib.Path(workdir) / SPEC).read_text())
  values["resources"] = Resources(**values["resources"])
  values["env"] = tuple(map(tuple, values["env"]))
  return JobSpec(
    **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
  )


def main(workdir: str, launcher: str = "0") -> int:
  """Runs the job of a run folder; returns its exit code, 75 if this was stopped."""
  if int(launcher):
    hold.tie(os.getppid())  # a shell that it started, which does not pass signals on
    threading.Thread(target=_watch, args=(int(launcher),), daemon=True).start()
  pool = Pool(1, Board(every=600.0))
  (outcome,) = pool.run([read(workdir)])
  if pool.asked:
    return STOPPED if outcome.state == "stopped" else 0
  if outcome.error:
    print(f"{outcome.name}: {outcome.error}", file=sys.stderr)
  if int(launcher):  # it reads job.json; XManager may hang where a unit has failed
    return 0
  code = outcome.code or 0
  return code if code >= 0 else 128 - code


def _watch(launcher: int) -> None:
  """Asks this process to stop once another has died."""
  while True:
    time.sleep(1)
    try:
      os.kill(launcher, 0)
    except ProcessLookupError:
      os.kill(os.getpid(), signal.SIGTERM)
      return


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
