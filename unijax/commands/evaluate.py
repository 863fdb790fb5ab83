"""`unijax eval`."""

import time

from unijax.asked import asked_file
from unijax.checkpoint import rundir
from unijax.evals.tasks import EVALUATIONS


def run(args) -> dict:
  """Evaluates a run as its task is measured; returns all figures."""
  began = time.monotonic()
  report = None
  if args.report:
    report = asked_file(args.report, "--report", "report.html")
  task = rundir.read_config(args.workdir).train.task
  options = {"split": args.split, "items": args.items}
  figures = EVALUATIONS[task].evaluate(args.workdir, args.step, report, options)
  return {
    "verb": "eval", "workdir": args.workdir, **figures,
    "seconds_total": round(time.monotonic() - began, 1),
  }  # fmt: skip
