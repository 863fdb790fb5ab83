"""What the driver of a sweep costs: its own processor time, and time between trials.

  python -m tests.bench.driver --trials=8 --seconds=10 --slots=2

Trials sleep, so that all processor time of this process and of the programs that take
the locks is the driver's. The last line is RESULT and a JSON object; `cpu_share` and
`wall_share` are shares of the time of the trials.
"""

import argparse
import json
import pathlib
import resource
import sys
import tempfile
import time

from unijax.sweep.jobs import JobSpec
from unijax.sweep.pool import Pool

SLEEP = "import time; time.sleep({})"


def main() -> None:
  """Runs the trials and prints what they cost."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--trials", type=int, default=8)
  parser.add_argument("--seconds", type=float, default=10.0, help="of a trial")
  parser.add_argument("--slots", type=int, default=2)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    jobs = []
    for number in range(args.trials):
      # -S -E: what a trial's own Python takes to start is not the driver's.
      command = (sys.executable, "-S", "-E", "-c", SLEEP.format(args.seconds))
      jobs.append(JobSpec(str(number), command, str(pathlib.Path(root) / str(number))))
    before, began = cpu(), time.monotonic()
    outcomes = Pool(args.slots).run(jobs)
    wall, spent = time.monotonic() - began, cpu() - before
  assert all(outcome.state == "done" for outcome in outcomes)
  rounds = -(-args.trials // args.slots)
  found = {
    "trials": args.trials, "seconds": args.seconds, "slots": args.slots,
    "cpu_seconds": round(spent, 3), "wall_seconds": round(wall, 3),
    "cpu_share": round(spent / (args.trials * args.seconds), 5),
    "wall_share": round(wall / (rounds * args.seconds) - 1, 5),
  }  # fmt: skip
  print("RESULT " + json.dumps(found))


def cpu() -> float:
  """Processor seconds of this process and of its children that ended."""
  both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
  return sum(use.ru_utime + use.ru_stime for use in both)


if __name__ == "__main__":
  main()
