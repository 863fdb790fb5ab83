"""Trackers against recording stand-ins, and the real packages where they are; run.json.

The stand-ins have of the real API what is called, and refuse what it would refuse.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from tests import small
from unijax.config import ConfigError
from unijax.train import loop, provenance, tracking
from unijax.train.metrics import MetricWriter, read_metrics
from unijax.train.tracking import Trackers

PICTURE = np.full((4, 6, 3), 200, np.uint8)


def config(*writers, **knobs):
  return small.config(track__writers=writers, track__project="p", **knobs)


class FakeWandb(types.ModuleType):
  """`wandb.init` and what of a run is called."""

  def __init__(self):
    super().__init__("wandb")
    self.__spec__ = importlib.util.spec_from_loader("wandb", None)
    self.inits, self.logged, self.defined, self.finished = [], [], [], []

  def init(self, *, project, id, resume, name, dir, config):
    assert resume == "allow" and pathlib.Path(dir).is_dir()
    self.inits.append((project, id, name, config["model"]["width"]))
    return self

  def define_metric(self, name, step_metric=None):
    self.defined.append((name, step_metric))

  def log(self, data):
    assert data["step"] >= 0
    self.logged.append(data)

  def finish(self, exit_code):
    self.finished.append(exit_code)

  def Image(self, pixels):
    return ("image", pixels.shape)


class FakeMlflow(types.ModuleType):
  """`MlflowClient` and what of it is called."""

  def __init__(self):
    super().__init__("mlflow")
    self.__spec__ = importlib.util.spec_from_loader("mlflow", None)
    self.entities = types.ModuleType("mlflow.entities")
    self.entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    self.entities.Param = lambda key, value: (key, value)
    self.metrics, self.params, self.images, self.status = [], [], [], {}
    self.experiments = {}

  def MlflowClient(self):
    return self

  def get_experiment_by_name(self, name):
    return self.experiments.get(name)

  def create_experiment(self, name):
    self.experiments[name] = types.SimpleNamespace(experiment_id=f"e-{name}")
    return f"e-{name}"

  def create_run(self, experiment_id, run_name):
    assert experiment_id == "e-p"
    self.status["r1"] = "RUNNING"
    return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

  def update_run(self, run_id, status):
    assert run_id in self.status
    self.status[run_id] = status

  def log_batch(self, run_id, metrics=(), params=()):
    assert run_id == "r1" and len(params) <= 100
    self.metrics += metrics
    self.params += params

  def log_image(self, run_id, image, *, key, step):
    self.images.append((key, step, image.shape))

  def set_terminated(self, run_id, status):
    self.status[run_id] = status


@pytest.fixture
def fakes(monkeypatch):
  wandb, mlflow = FakeWandb(), FakeMlflow()
  for name, module in (("wandb", wandb), ("mlflow", mlflow),
                       ("mlflow.entities", mlflow.entities)):  # fmt: skip
    monkeypatch.setitem(sys.modules, name, module)
  return wandb, mlflow


def one_start(workdir, c, start, said, fail=None):
  """What a run writes from one step on; stopped by an error if one is given."""
  with MetricWriter(
    workdir, start, trackers=Trackers(workdir, c, said.append)
  ) as writer:
    writer.scalars(start + 1, {"text_nll": 2.0}, "held_out")
    writer.scalars(start, {"loss": float("nan"), "image_mse/0.1": 1.0}, "train")
    writer.image(start, "samples", PICTURE)
    if fail:
      raise fail


def test_both_trackers_get_what_the_files_get_and_go_on_after_a_restart(
  tmp_path, fakes
):
  wandb, mlflow = fakes
  c, workdir, said = config("wandb", "mlflow"), tmp_path / "lr=0.1", []
  workdir.mkdir()
  with pytest.raises(KeyboardInterrupt):
    one_start(workdir, c, 0, said, KeyboardInterrupt())
  assert wandb.finished == [1] and mlflow.status == {"r1": "KILLED"}
  one_start(workdir, c, 10, said)
  (first, second), ids = (
    wandb.inits,
    json.loads((workdir / "tracking.json").read_text()),
  )
  assert first == second == ("p", ids["wandb"], "lr=0.1", 32) and ids["mlflow"] == "r1"
  assert wandb.finished == [1, 0] and mlflow.status == {"r1": "FINISHED"}
  assert ("*", "step") in wandb.defined, "or W&B drops what comes late"
  steps = [(x["step"], sorted(set(x) - {"step"})) for x in wandb.logged]
  train = ["train/image_mse/0.1", "train/loss"]
  assert steps == [
    (1, ["held_out/text_nll"]), (0, train), (0, ["samples"]),
    (11, ["held_out/text_nll"]), (10, train), (10, ["samples"]),
  ]  # fmt: skip
  assert mlflow.metrics[0] == ("held_out/text_nll", 2.0, 1) and len(mlflow.metrics) == 6
  assert mlflow.images == [("samples", 0, (4, 6, 3)), ("samples", 10, (4, 6, 3))]
  params = dict(mlflow.params)
  assert params["model.width"] == "32" and params["seed"] == "0" and len(params) > 100
  assert len(params) == len(mlflow.params), "parameters are written once"
  assert len(read_metrics(workdir)) == 4 and not said


def test_a_tracker_that_fails_is_given_up_and_training_goes_on(
  tmp_path, fakes, monkeypatch
):
  wandb, mlflow = fakes

  def down(*words, **more):
    raise ConnectionError("no route")

  monkeypatch.setattr(wandb, "log", down)
  said = []
  one_start(tmp_path, config("wandb", "mlflow"), 0, said)
  assert said == ["wandb is given up for this start, metrics.jsonl goes on: "
                  "ConnectionError: no route"]  # fmt: skip
  assert len(mlflow.metrics) == 3 and len(read_metrics(tmp_path)) == 2
  monkeypatch.setattr(wandb, "init", down)
  with pytest.raises(
    ConfigError, match="wandb cannot begin .ConnectionError: no route"
  ):
    Trackers(tmp_path, config("wandb"), said.append)


@pytest.mark.parametrize("name", tracking.TRACKERS)
def test_a_missing_package_is_said_before_anything_is_done(tmp_path, monkeypatch, name):
  monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda module: None)
  with pytest.raises(ConfigError, match=rf"pip install 'unijax\[{name}\]'"):
    loop.train(config(name), tmp_path / "run")
  assert not (tmp_path / "run").exists()
  with pytest.raises(ConfigError, match="track.writers: 'wandbb' is not one of"):
    config("wandbb")
  for wrong in ({"track__writers": (name, name)}, {"track__project": " "}):
    with pytest.raises(ConfigError, match="must be (named once each|a name)"):
      small.config(**wrong)


def test_without_trackers_nothing_is_written(tmp_path):
  one_start(tmp_path, config(), 0, [])
  assert not (tmp_path / "tracking.json").exists()


def test_the_real_mlflow(tmp_path, monkeypatch):
  mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
  monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
  monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # it prefers databases
  c, workdir, said = config("mlflow"), tmp_path / "run", []
  workdir.mkdir()
  for start in (0, 10):
    one_start(workdir, c, start, said)
  assert not said, said
  client = mlflow.MlflowClient()
  experiment = client.get_experiment_by_name("p").experiment_id
  (run,) = client.search_runs([experiment])
  assert run.info.status == "FINISHED" and run.data.params["model.width"] == "32"
  history = client.get_metric_history(run.info.run_id, "train/image_mse/0.1")
  assert [(m.step, m.value) for m in history] == [(0, 1.0), (10, 1.0)]


def test_the_real_wandb_offline(tmp_path, monkeypatch):
  pytest.importorskip("wandb", reason="wandb is not installed")
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  c, workdir, said = config("wandb"), tmp_path / "run", []
  workdir.mkdir()
  for start in (0, 10):
    one_start(workdir, c, start, said)
  assert not said, said
  (name,) = json.loads((workdir / "tracking.json").read_text()).values()
  files = list((workdir / "wandb").glob("offline-run-*/run-*.wandb"))
  assert len(files) == 2 and {f.stem for f in files} == {f"run-{name}"}
  content = b"".join(f.read_bytes() for f in files)
  for word in (b"held_out/text_nll", b"train/image_mse/0.1"):
    assert content.count(word) >= 2


def test_run_json_is_enough_to_run_again_and_holds_no_secret(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_API_KEY", "hush-hush")
  monkeypatch.setattr(sys, "argv", ["unijax", "train", "--config=a b"])
  c = small.config(optim__learning_rate=0.5)
  for step in (0, 7):
    provenance.record(tmp_path, c, step)
  text = (tmp_path / "run.json").read_text()
  one, two = json.loads(text)["starts"]
  assert [one["step"], two["step"]] == [0, 7] and "hush" not in text
  assert one["command"] == [sys.executable, "unijax", "train", "--config=a b"]
  assert "optim.learning_rate: 0.0003 -> 0.5" in one["config_from_base"]
  assert not any(line.startswith("optim.b1") for line in one["config_from_base"])
  assert {"jax", "numpy", "flax"} <= set(one["packages"])
  (tmp_path / "run.json").write_text("{")
  provenance.record(tmp_path, c, 9)
  assert len(json.loads((tmp_path / "run.json").read_text())["starts"]) == 1


def test_the_commit_and_whether_files_differ(tmp_path):
  assert provenance.git(tmp_path) is None

  def git(*words):
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(
      ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True
    )

  git("init")
  (tmp_path / "a").write_text("1")
  git("add", "a")
  git("commit", "-m", "x")
  found = provenance.git(tmp_path)
  assert len(found["commit"]) == 40 and found["dirty"] is False
  (tmp_path / "a").write_text("2")
  assert provenance.git(tmp_path) == {**found, "dirty": True}
