"""Other places that metrics go to, by `track.writers`: Weights & Biases, MLflow.

A tracker's methods are called as those of `clu.metric_writers.MetricWriter`, which
itself cannot be imported without TensorFlow. Its run is the same in every start: ids
are in tracking.json of the run folder. What is trained again after a crash is written
again, and the last value holds.

The metric files of a run never depend on any of this: a tracker that fails while a run
trains is given up, and the run says so.
"""

import importlib.util
import json
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from unijax.config import Config, ConfigError, to_dict
from unijax.disk import write_whole

FILE = "tracking.json"


class Tracker(Protocol):
  """What training calls."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers of a step, which may come after those of a later one."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes uint8 pictures [h, w, 3]."""

  def close(self, done: bool) -> None:
    """Ends the tracked run; `done`: training is, else a later start goes on."""


class Wandb:
  """Weights & Biases; its own environment variables say where to and as whom.

  Args:
    workdir: the run directory; files of W&B lie in its folder wandb.
    config: of the run.
    known: id of the run of an earlier start; "" for none.
  """

  module, extra = "wandb", "wandb"

  def __init__(self, workdir: pathlib.Path, config: Config, known: str):
    import wandb

    self._wandb, self.id = wandb, known or uuid.uuid4().hex[:16]
    self._run = wandb.init(
      project=config.track.project, id=self.id, resume="allow", name=workdir.name,
      dir=str(workdir), config=to_dict(config),
    )  # fmt: skip
    # Metrics of a step come after those of evaluations at the next one, and W&B drops
    # what comes late in its own count of steps; so the step is a metric, too.
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """As `Tracker`."""
    self._run.log({**scalars, "step": step})

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """As `Tracker`."""
    pictures = {name: self._wandb.Image(pixels) for name, pixels in images.items()}
    self._run.log({**pictures, "step": step})

  def close(self, done: bool) -> None:
    """As `Tracker`."""
    self._run.finish(exit_code=0 if done else 1)


class Mlflow:
  """MLflow; MLFLOW_TRACKING_URI says where to.

  Args:
    workdir: the run directory.
    config: of the run; its knobs are parameters of the tracked run.
    known: id of the run of an earlier start; "" for none.
  """

  module, extra = "mlflow", "mlflow"
  AT_ONCE = 100  # parameters of one request

  def __init__(self, workdir: pathlib.Path, config: Config, known: str):
    import mlflow
    from mlflow.entities import Metric, Param

    self._metric, self._client = Metric, mlflow.MlflowClient()
    if known:
      self.id = known
      self._client.update_run(known, status="RUNNING")
      return
    project = self._client.get_experiment_by_name(config.track.project)
    experiment = (
      project.experiment_id
      if project
      else self._client.create_experiment(config.track.project)
    )
    self.id = self._client.create_run(experiment, run_name=workdir.name).info.run_id
    knobs = [Param(name, text[:500]) for name, text in _flat("", to_dict(config))]
    for first in range(0, len(knobs), self.AT_ONCE):
      self._client.log_batch(self.id, params=knobs[first : first + self.AT_ONCE])

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """As `Tracker`."""
    now = int(time.time() * 1000)
    made = [self._metric(name, value, now, step) for name, value in scalars.items()]
    self._client.log_batch(self.id, metrics=made)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """As `Tracker`."""
    for name, pixels in images.items():
      self._client.log_image(self.id, pixels, key=name, step=step)

  def close(self, done: bool) -> None:
    """As `Tracker`."""
    self._client.set_terminated(self.id, status="FINISHED" if done else "KILLED")


TRACKERS = {"wandb": Wandb, "mlflow": Mlflow}


def check(names: Sequence[str]) -> None:
  """Looks whether the packages are there, before anything is trained.

  Raises:
    ConfigError: one is missing; how to install it.
  """
  for name in names:
    kind = TRACKERS[name]
    if importlib.util.find_spec(kind.module) is None:
      raise ConfigError(
        f"track.writers names {name!r}, and the package {kind.module} is not "
        f"installed: pip install 'unijax[{kind.extra}]', or leave it out"
      )


class Trackers:
  """All trackers of a run; one that fails is given up, and that is said.

  Args:
    workdir: the run directory.
    config: of the run.
    say: takes a line for people.

  Raises:
    ConfigError: one cannot begin, as where nobody is logged in.
  """

  def __init__(self, workdir: pathlib.Path, config: Config, say: Callable[[str], Any]):
    self._say, self._open = say, {}
    path = workdir / FILE
    ids = json.loads(path.read_text()) if path.exists() else {}
    for name in config.track.writers:
      try:
        tracker = TRACKERS[name](workdir, config, ids.get(name, ""))
      except Exception as error:
        raise ConfigError(
          f"track.writers: {name} cannot begin ({type(error).__name__}: {error})"
        ) from error
      self._open[name], ids[name] = tracker, tracker.id
    if config.track.writers:
      write_whole(path, json.dumps(ids) + "\n")

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """To all that are left."""
    self._all(lambda tracker: tracker.write_scalars(step, scalars))

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """To all that are left."""
    self._all(lambda tracker: tracker.write_images(step, images))

  def close(self, done: bool) -> None:
    """All that are left."""
    self._all(lambda tracker: tracker.close(done))

  def _all(self, call: Callable[[Tracker], None]) -> None:
    for name, tracker in list(self._open.items()):
      try:
        call(tracker)
      except Exception as error:  # of a network, a server, a full disk
        del self._open[name]
        self._say(
          f"{name} is given up for this start, metrics.jsonl goes on: "
          f"{type(error).__name__}: {error}"
        )


def _flat(path: str, value: Any) -> list[tuple[str, str]]:
  """(dotted path, text) of every knob."""
  if isinstance(value, Mapping):
    return [x for k, v in value.items() for x in _flat(f"{path}.{k}".strip("."), v)]
  return [(path, str(value))]
