"""Runs several points of a config on this machine, a few at a time.

  python launch/local.py --config=configs/transfusion.py:tiny --root=runs/search \\
    --point optim.learning_rate=0.005 --point optim.learning_rate=0.02,seed=1 \\
    --slots=1
  python launch/local.py --config=configs/transfusion.py:tiny --root=runs/freeze \\
    --point "optim.freeze=('patch_codec/*', 'embedding/*'),seed=1"

Each point is one `unijax train` in its own directory under --root, named after the
point, with what it prints in job.log and how it ended in job.json. Started again,
finished points cost nothing and interrupted ones resume. A point that ends with 75
(SIGTERM) or 76 (hang) is started again, one that crashes stops no other.

Ctrl-C or SIGTERM here goes on to all points: they save, and this ends with 75; the same
command goes on. Exit codes: 0 all done, 1 a point failed, 2 bad input, 75 stopped.
"""

import argparse
import json
import pathlib
import re
import sys

from unijax.config import ConfigError
from unijax.sweep.jobs import JobSpec, make_jobs
from unijax.sweep.pool import Outcome, Pool, exit_code


def jobs_of(config: str, root: pathlib.Path, points: list[str]) -> list[JobSpec]:
  """Returns the jobs of points such as 'a.b=1,c=2'; '' is the config itself."""
  jobs: dict[str, JobSpec] = {}
  for point in points:
    # A comma inside a tuple is no end of a value.
    knobs = [x.strip() for x in re.split(r",(?=\s*\w+(?:\.\w+)*\s*=)", point)]
    knobs = [x for x in knobs if x]
    if wrong := [x for x in knobs if "=" not in x]:
      raise ConfigError(f"--point {point!r}: {wrong[0]!r} is not knob=value")
    name = re.sub(r"[^\w.=-]+", "_", point, flags=re.ASCII)[:200] or "base"
    if name in jobs:
      raise ConfigError(f"--point {point!r}: another one has the run folder {name}")
    overrides = [f"--config.{x}" for x in knobs]
    (jobs[name],) = make_jobs(config, [(name, {})], root, overrides=overrides)
  return list(jobs.values())


def show(job: JobSpec, outcome: Outcome) -> None:
  """Prints how a point ended, with its result or its error."""
  how = {"done": "ok", "stopped": "stopped"}.get(outcome.state, f"exit {outcome.code}")
  print(f"{how:8s} {' '.join(job.command[4:])}")
  if outcome.state == "done":
    print(f"  RESULT {json.dumps(outcome.result)}")
  elif outcome.error:
    print(f"  {outcome.error}")


def main(argv: list[str] | None = None) -> None:
  """Parses the arguments and runs all points."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", required=True, help="FILE[:preset]")
  parser.add_argument(
    "--root", required=True, type=pathlib.Path, help="for run folders"
  )
  parser.add_argument("--point", action="append", help="knob=value[,knob=value]")
  parser.add_argument("--slots", type=int, default=1, help="points at a time")
  args = parser.parse_args(argv)
  try:
    jobs = jobs_of(args.config, args.root, args.point or [""])
    pool = Pool(args.slots)
  except ValueError as error:
    parser.exit(2, f"{parser.prog}: {error}\n")
  outcomes = pool.run(jobs)
  for job, outcome in zip(jobs, outcomes, strict=True):
    show(job, outcome)
  sys.exit(exit_code(outcomes))


if __name__ == "__main__":
  main()
