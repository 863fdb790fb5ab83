"""`unijax eval` of a run of the unified task."""

import pathlib

from unijax.config import ConfigError
from unijax.evals import page, suite
from unijax.infer.load import load_run
from unijax.report import score_table
from unijax.train.progress import LOSSES

RESULTS = (
  *(f"{part}/{loss}" for part in ("train", "held_out") for _, loss in LOSSES),
  *(f"quick/{task}_exact" for task in ("draw", "describe", "ask", "edit")),
)


def evaluate(
  workdir: str, step: int | None, report: pathlib.Path | None, options: dict
) -> dict:
  """Evaluates a run; prints the table; returns all figures.

  Args:
    workdir: of the run.
    step: which checkpoint; None is the latest.
    report: where the page goes; None writes none.
    options: `split` (names, None is all) and `items` (prompts a task and split).

  Raises:
    ConfigError: a split that the run does not have.
  """
  loaded = load_run(workdir, step)
  try:
    result = suite.evaluate(loaded, splits=options["split"], items=options["items"])
  except ValueError as error:
    raise ConfigError(str(error)) from error
  print(score_table(page.headline(result)))
  summary = {"step": loaded.step}
  if report:
    summary["report"] = str(page.write(report, workdir, loaded, result))
  return {**summary, **result.summary()}
