"""One trial of a sweep: trained, scored, and drawn."""

import pathlib

from unijax.config import ConfigError, from_config_dict
from unijax.evals import compare_one
from unijax.evals.tasks import EVALUATIONS
from unijax.sweep import trials


def run(folder: str) -> dict:
  """Trains the trial of a run folder, or goes on with it, and scores it.

  It trains as `unijax train` does, with the same hooks, and is scored as `unijax
  compare` scores: on the same items for all trials of a task.

  Returns:
    What scores.json says.

  Raises:
    ConfigError: the folder is none of a sweep, or was made by a version of unijax with
      other knobs.
    Interrupted: by Ctrl-C or SIGTERM, after saving; the same command goes on.
  """
  place = pathlib.Path(folder)
  trial = trials.read(place)
  if (done := compare_one.finished(place, trial.key)) is not None:
    return done
  try:
    config = from_config_dict(trial.config)
  except ConfigError as error:
    raise ConfigError(
      f"{place / trials.TRIAL} is of another version of unijax; "
      f"`unijax sweep run` with another --root begins anew: {error}"
    ) from error
  counted = dict(trial.counted) or compare_one.budget(config, None)[0]
  hooks = EVALUATIONS[config.train.task].hooks(config)
  about = {"name": trial.name, "config": trial.label}
  return compare_one.train_and_score(
    config, place, hooks, trial.prompts, trial.key, about, counted
  )
