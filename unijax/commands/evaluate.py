"""`unijax eval`."""

import time

from unijax.config import ConfigError
from unijax.evals import page, suite
from unijax.infer.load import load_run
from unijax.report import score_table


def run(args) -> dict:
  """Evaluates a run; prints the table; returns all figures."""
  began = time.monotonic()
  loaded = load_run(args.workdir, args.step)
  try:
    result = suite.evaluate(loaded, splits=args.split, items=args.items)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  print(score_table(page.headline(result)))
  summary = {"verb": "eval", "workdir": args.workdir, "step": loaded.step}
  if args.report:
    path = page.write(args.report, args.workdir, loaded, result)
    summary["report"] = str(path)
  return {
    **summary, **result.summary(), "seconds_total": round(time.monotonic() - began, 1)
  }  # fmt: skip
