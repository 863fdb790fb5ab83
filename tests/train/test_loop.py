"""Laws of the loop: hooks, refusals, interruption, and that a small model learns."""

import json
import logging
import os
import pathlib
import signal

import jax
import numpy as np
import pytest

from tests import small
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.start import Start
from unijax.checkpoint.store import Store
from unijax.config import from_config_dict, to_dict
from unijax.evals import held_out
from unijax.infer.load import load_run
from unijax.train import loop
from unijax.train.interrupt import Interrupted
from unijax.train.loop import Hook
from unijax.train.metrics import read_metrics
from unijax.train.run import open_run


def changed(c, **knobs):
  values = to_dict(c)
  for name, value in knobs.items():
    section, _, knob = name.partition("__")
    values[section][knob] = value
  return from_config_dict(values)


def config(**knobs):
  return changed(small.scenes(), **knobs)


def same(one, other) -> bool:
  return all(
    jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))
  )


def restore(workdir, c, step=None):
  store = Store(workdir, read_only=True)
  try:
    return store.restore(small.functions(c).abstract_state(), step)
  finally:
    store.close()


def test_hooks_see_the_state_before_their_step_and_the_last(tmp_path):
  seen = []
  hook = Hook(2, lambda run, state, step: seen.append((step, int(state.step))))
  state, run = loop.train(config(), tmp_path, [hook])
  assert seen == [(2, 2), (4, 4), (6, 6)]
  assert int(state.step) == 6 and run.workdir == tmp_path
  lines = [line for line in read_metrics(tmp_path) if "train/loss" in line]
  assert [line["step"] for line in lines] == list(range(6))
  assert (tmp_path / "parameters.txt").read_text().count("\n") > 10
  (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
  assert start["step"] == 0 and "train.steps: 1000 -> 6" in start["config_from_base"]
  assert same(restore(tmp_path, config(), 6), state)


def test_a_directory_belongs_to_one_config(tmp_path):
  c = config()
  loop.train(c, tmp_path)
  other = changed(c, optim__learning_rate=0.5, data__threads=2)
  with pytest.raises(CheckpointError) as error:
    loop.train(other, tmp_path)
  text = str(error.value)
  assert "optim.learning_rate: 0.01 -> 0.5" in text and "--workdir" in text
  assert "threads" not in text  # may change: it decides no number
  free = changed(
    c, data__threads=2, train__log_every=7, sample__steps=9, eval__prompts=3
  )
  state, _ = loop.train(free, tmp_path)
  assert int(state.step) == 6


def test_a_finished_run_trains_no_further(tmp_path):
  c = config()
  first, _ = loop.train(c, tmp_path)
  before = (tmp_path / "metrics.jsonl").read_text()
  again, _ = loop.train(c, tmp_path, [Hook(1, lambda *_: 1 / 0)])
  assert same(first, again) and (tmp_path / "metrics.jsonl").read_text() == before


def test_options_that_json_writes_otherwise_are_still_the_same_config(tmp_path):
  values = to_dict(config())
  options = values["data"]["sources"]["scenes"]["options"]
  options["tasks"] = {"draw": 1.0, "ask": 2}
  rundir.write_config(tmp_path, from_config_dict(values), {})
  options["tasks"] = {"ask": 2.0, "draw": 1}
  rundir.check_same_run(tmp_path, from_config_dict(values))
  options["anything"] = (1, 2)  # a list in JSON
  rundir.write_config(tmp_path, from_config_dict(values), {})
  rundir.check_same_run(tmp_path, from_config_dict(values))


@pytest.mark.parametrize("lost", ["params", "opt_state"])
def test_what_is_not_finite_is_never_saved(tmp_path, lost):
  """The loss may look well, or not be looked at, while the weights are lost."""
  c = config(train__log_every=100, checkpoint__every_steps=2, guard__patience=1)
  state = small.functions(c).init()
  broken = jax.tree.map(
    lambda x: x * float("nan") if x.ndim else x, getattr(state, lost)
  )
  store = Store(tmp_path)
  store.save(state.replace(step=state.step + 3, **{lost: broken}), 3)
  store.close()
  with pytest.raises(
    FloatingPointError, match=r"steps .* 3 to 3: (loss nan|.*param_norm nan)"
  ):
    loop.train(c, tmp_path)
  store = Store(tmp_path, read_only=True)
  assert store.steps() == [3]
  store.close()


def test_a_run_goes_on_in_another_directory(tmp_path):
  c = config(checkpoint__every_steps=3)
  straight, _ = loop.train(c, tmp_path / "one")
  begin = Start(resume_from=f"{tmp_path / 'one'}@3")
  moved, _ = loop.train(c, tmp_path / "two", begin=begin)
  assert same(straight, moved)
  assert losses(tmp_path / "two") == losses(tmp_path / "one")[3:]


def test_a_run_begins_with_the_parameters_of_another(tmp_path):
  trained, _ = loop.train(config(), tmp_path / "one")
  begin = Start(init_from=str(tmp_path / "one"))
  state, _ = loop.train(config(), tmp_path / "two", begin=begin)
  assert int(state.step) == 6 and not same(state.params, trained.params)
  first = [losses(tmp_path / name)[0] for name in ("one", "two")]
  assert first[0][0] == first[1][0] == 0 and first[1][1] < first[0][1]


def test_the_best_state_is_saved_whenever_it_is_measured(tmp_path):
  values = {1: 5.0, 2: 3.0, 3: 4.0, 4: 3.5, 5: 3.2, 6: 9.0}
  score = lambda run, state, step: run.writer.scalars(
    step, {"x": values[step]}, "score"
  )
  c = config(checkpoint__every_steps=0, checkpoint__keep=1)
  c = changed(c, checkpoint__best_metric="score/x")
  loop.train(c, tmp_path, [Hook(1, score)])
  store = Store(tmp_path, read_only=True)
  assert store.steps() == [2, 6]  # the best, and the end
  assert store.metrics() == {2: {"score/x": 3.0}, 6: {"score/x": 9.0}}
  store.close()


def press_ctrl_c(run, state, step):
  os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_saves_where_it_stops_and_resuming_loses_nothing(tmp_path):
  c = config()
  straight, _ = loop.train(c, tmp_path / "straight")
  before = signal.getsignal(signal.SIGINT)
  for _ in range(2):  # the second time before the first step of the resumed run
    with pytest.raises(
      Interrupted, match=r"step 3 of 6, saved in .*same command resumes"
    ):
      loop.train(c, tmp_path / "stopped", [Hook(3, press_ctrl_c)])
    assert signal.getsignal(signal.SIGINT) is before
  resumed, _ = loop.train(c, tmp_path / "stopped")
  assert same(straight, resumed)
  assert losses(tmp_path / "straight") == losses(tmp_path / "stopped")


def losses(workdir):
  return [(line["step"], line["train/loss"]) for line in read_metrics(workdir)]


def test_a_run_that_is_not_there(tmp_path):
  with pytest.raises(CheckpointError, match=r"holds no run .*unijax train --config"):
    load_run(tmp_path / "nothing")
  loop.train(config(), tmp_path)
  with pytest.raises(CheckpointError, match=r"has not step 7: it has steps \[6\]"):
    load_run(tmp_path, step=7)
  loaded = load_run(tmp_path)
  assert loaded.step == 6 and loaded.chat
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(CheckpointError, match="config.json is damaged"):
    load_run(tmp_path)


def test_a_small_model_learns_eight_documents_by_heart(tmp_path):
  values = to_dict(config(train__steps=150, data__caption_dropout=0.0))
  values["data"]["sources"]["scenes"]["options"]["num_documents"] = 8
  loop.train(from_config_dict(values), tmp_path)
  last = [line for line in read_metrics(tmp_path) if line["step"] >= 120]
  text = np.mean([line["train/text_nll"] for line in last])
  image = np.mean([line["train/image_mse"] for line in last])
  assert text < 0.1 and image < 0.1, (text, image)  # both begin above 1.8


def losses_on_held_out(run, state, step):
  """What an evaluation does: other compiled functions, host arrays moved freely."""
  figures = held_out.losses(run.config, run.functions, state.ema_params, 1)
  run.writer.scalars(step, figures, "held_out")


def test_step_one_is_the_only_compilation(tmp_path):
  """Fresh and resumed, with evaluations and checkpoints between the steps."""
  c = config(checkpoint__every_steps=2)
  hooks = [Hook(2, losses_on_held_out), Hook(3, press_ctrl_c)]
  with pytest.raises(Interrupted):
    loop.train(c, tmp_path, hooks)
  counted = []
  count = Hook(1, lambda run, state, step: counted.append(len(compiled.records)))
  with Compiled() as compiled:
    _, run = loop.train(c, tmp_path, [hooks[0], count])
  assert run.functions.train._cache_size() == 1
  assert run.functions.evaluate._cache_size() == 1
  names = [r.getMessage() for r in compiled.records[counted[0] :]]
  assert sum("train_step" in name for name in names) == 1, names
  assert sum("eval_step" in name for name in names) == 1, names
  assert counted[-1] == counted[-2], names  # at steps 5 and 6


class Compiled(logging.Handler):
  """While open, keeps a record of everything that JAX compiles."""

  def __init__(self):
    super().__init__()
    self.records = []

  def emit(self, record):
    if record.getMessage().startswith("Compiling "):
      self.records.append(record)

  def __enter__(self):
    self.context = jax.log_compiles()
    self.context.__enter__()
    logging.getLogger("jax").addHandler(self)
    return self

  def __exit__(self, *error):
    logging.getLogger("jax").removeHandler(self)
    self.context.__exit__(*error)


def test_nothing_moves_to_the_device_unasked(tmp_path, monkeypatch):
  """The batch is placed on purpose; were it not, the step would not take it."""
  opened = open_run

  def forgetful(*arguments):
    run = opened(*arguments)
    run.functions.place = lambda batch: batch
    return run

  monkeypatch.setattr(loop, "open_run", forgetful)
  with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
    loop.train(config(), tmp_path)


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
  """200 steps with metrics and evaluations: neither arrays nor bytes are left behind."""
  seen = {}

  def look(run, state, step):
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    seen[step] = len(jax.live_arrays()), pages * os.sysconf("SC_PAGE_SIZE")

  c = config(train__steps=260, checkpoint__every_steps=1000, train__log_every=10)
  loop.train(c, tmp_path, [Hook(50, losses_on_held_out), Hook(20, look)])
  arrays = {step: n for step, (n, _) in seen.items()}
  assert arrays[240] - arrays[60] < 20, arrays  # one left a step were 180
  grown = seen[240][1] - seen[60][1]
  assert grown < 24 * 2**20, grown  # a batch is 0.9 MB: 180 of them were 170 MB
