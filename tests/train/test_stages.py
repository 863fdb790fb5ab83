"""Laws of a run in stages: what rests keeps its bits, and stops change nothing."""

import dataclasses
import functools
import json
import signal

import jax
import numpy as np
import pytest

from tests import small
from tests.train import test_resume
from tests.train.test_loop import Compiled, press_ctrl_c, restore, same
from tests.train.test_optim import named
from unijax.checkpoint.start import Start
from unijax.checkpoint.store import Store
from unijax.config import Config, ConfigError, from_config_dict, to_dict
from unijax.data.loader import Loader
from unijax.train import events, guards, loop, stages, tasks
from unijax.train import step as step_lib
from unijax.train.functions import StepFunctions
from unijax.train.interrupt import Interrupted
from unijax.train.loop import Hook
from unijax.train.metrics import read_metrics

FIRST, SECOND = 3, 4  # steps
IMAGE = ("patch_codec/*", "time_embedding/*")
OPTIONS = {"num_documents": 64, "max_objects": 2, "grid": 2}
TEXT = {"kind": "scenes", "weight": 1.0,
        "options": {**OPTIONS, "tasks": {"describe": 1.0}}}  # fmt: skip
DRAW = {"kind": "scenes", "weight": 1.0, "options": {**OPTIONS, "tasks": {"draw": 1.0}}}
TRAIN = """
import sys, time
from tests.train import test_stages
from unijax.train.loop import Hook, train
pause = Hook(1, lambda run, state, step: time.sleep(0.05))  # leaves time to die in
train(test_stages.config(), sys.argv[1], [pause])
"""


def staged(first: dict, second: dict, **knobs) -> Config:
  """Captions, then drawings as well; `first` and `second` are added to the stages."""
  sources = {"captions": TEXT, "drawings": DRAW}
  values = to_dict(
    small.scenes(
      data__sources=sources, checkpoint__every_steps=2, checkpoint__keep=1,
      optim__weight_decay=0.1, **knobs,
    )
  )  # fmt: skip
  values["train"].update(stages=["captions", "all"], steps=0)
  values["stages"] = {
    "captions": {"steps": FIRST, **first}, "all": {"steps": SECOND, **second},
  }  # fmt: skip
  return from_config_dict(json.loads(json.dumps(values)))


def config(**knobs) -> Config:
  """The image side rests and there are only captions; then everything."""
  return staged(
    {
      "optim": {"freeze": IMAGE, "rates": [["embedding/*", 0.5]]},
      "train": {"image_loss_weight": 0.0},
      "data": {"sources": {"drawings": {"weight": 0.0}}},
    },
    {"optim": {"learning_rate": 2e-3}},
    **knobs,
  )


def once(call):
  """A hook that does something the first time only."""
  left = [call]
  return lambda *about: left.pop()(*about) if left else None


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """(directory, what was said, state) of a run that nothing happened to."""
  workdir, said = tmp_path_factory.mktemp("straight"), []

  def listen(run, state, step):
    say = run.progress.say
    run.progress.say = lambda text, end="\n": (said.append(text), say(text, end))

  state, _ = loop.train(config(), workdir, [Hook(1, once(listen))])
  return workdir, said, state


def frozen(path: str) -> bool:
  return path.startswith(("patch_codec", "time_embedding"))


def test_what_rests_keeps_its_bits_and_its_average_too(straight):
  workdir, _, state = straight
  fresh = small.functions(config()).init()
  middle = restore(workdir, config(), FIRST)
  for tree in ("params", "ema_params"):
    begin, after, end = (named(getattr(s, tree)) for s in (fresh, middle, state))
    for path, x in begin.items():
      assert (x.tobytes() == after[path].tobytes()) == frozen(path), (tree, path)
      assert after[path].tobytes() != end[path].tobytes(), (tree, path)
  assert set(state.opt_state) == {"adam", "adam_in_all"}
  rested = jax.tree.leaves(middle.opt_state["adam_in_all"])
  assert rested and all((x == 0).all() for x in rested)
  counts = {k: int(v.inner_state[0].count) for k, v in state.opt_state.items()}
  assert counts == {"adam": FIRST + SECOND, "adam_in_all": SECOND}


@pytest.mark.slow
def test_muon_and_micro_batches_keep_what_rests():
  c = config(optim__name="muon", train__micro_batches=2)
  functions = StepFunctions(c, small.VOCABULARY.size)
  state = functions.init()
  before = jax.device_get(state)
  loader = Loader(c)
  for step in range(2):
    state, metrics = functions.train_at(step)(state, loader.batch(step))
  for tree in ("params", "ema_params"):
    begin, after = named(getattr(before, tree)), named(getattr(state, tree))
    for path, x in begin.items():
      assert (x.tobytes() == np.asarray(after[path]).tobytes()) == frozen(path), path
  assert set(state.opt_state) == {"adam", "adam_in_all", "muon"}
  assert float(metrics["grad_norm"].total) > 0


def test_the_gradient_and_its_norm_have_nothing_of_what_rests():
  c, weights = config().at(0), small.params(config(), 0)
  task = tasks.make_task(c, small.functions(config()).model.sizes.vocab)
  gradients = jax.jit(
    lambda p, b, k: step_lib.gradients(p, task, b, k)[0],
    compiler_options=small.QUICK,
  )
  found = named(gradients(weights, Loader(c).batch(0), jax.random.key(0)))
  for path, x in found.items():
    assert bool((x == 0).all()) == frozen(path), path


def test_the_end_of_a_stage_is_saved_and_kept(straight):
  store = Store(straight[0], read_only=True)
  assert store.steps() == [FIRST, FIRST + SECOND]  # of 2, 3, 4, 6, 7; keep=1
  store.close()


def test_metrics_events_and_lines_name_the_stage(straight):
  workdir, said, _ = straight
  lines = [x for x in read_metrics(workdir) if "train/loss" in x]
  assert [x["train/stage"] for x in lines] == [1] * FIRST + [2] * SECOND
  marks = [x for x in events.read(workdir) if x["event"] == "stage"]
  assert [(x["step"], x["stage"]) for x in marks] == [(0, "captions"), (FIRST, "all")]
  shown = [x for x in said if x.startswith("step ")]
  assert shown[0].startswith("step 1/7  captions (1 of 2)  text ")
  assert shown[-1].startswith("step 7/7  all (2 of 2)  text ")
  begins = [x for x in said if "begins" in x]
  assert begins[-1].startswith(
    f"step {FIRST}: stage all (2 of 2) begins, to step 7;"
  ) and begins[-1].endswith("parameters trained, 0 frozen")


def test_a_table_counts_what_each_stage_trains():
  params = jax.eval_shape(small.functions(config()).init).params
  first, second = stages.rows(config(), params)
  sizes = {path: x.size for path, x in named(params).items()}
  assert first.frozen == sum(n for path, n in sizes.items() if frozen(path))
  assert first.trained + first.frozen == second.trained == sum(sizes.values())
  shown = stages.table(config(), params)
  assert "captions" in shown and f"{first.frozen:,}" in shown and "embedding/*" in shown
  assert stages.table(small.scenes(), params) == ""


@pytest.mark.parametrize("at", [[FIRST], [2, FIRST + 1]])
def test_stopped_in_a_stage_or_between_two_it_goes_on_as_if_not(straight, tmp_path, at):
  for step in at:
    with pytest.raises(Interrupted):
      loop.train(config(), tmp_path, [Hook(step, press_ctrl_c)])
  state, _ = loop.train(config(), tmp_path)
  assert same(state, straight[2])
  assert test_resume.metrics(tmp_path) == test_resume.metrics(straight[0])


@pytest.mark.slow
def test_killed_in_both_stages_it_is_the_same_run(straight, tmp_path):
  for lines in (1, FIRST + 1):
    process = test_resume.start("-c", TRAIN, tmp_path)
    test_resume.wait_for(process, lambda n=lines: len(read_metrics(tmp_path)) > n)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  state, _ = loop.train(config(), tmp_path)
  assert same(state, straight[2])
  assert test_resume.metrics(tmp_path) == test_resume.metrics(straight[0])
  begun = [x["stage"] for x in events.read(tmp_path) if x["event"] == "stage"]
  assert begun[0] == "captions" and begun[-1] == "all"


@pytest.mark.slow
def test_two_stages_are_two_runs_where_they_hold_the_same_and_read_the_same(tmp_path):
  """Other rates, losses and decay; a run's own schedule would need its own steps."""
  c = staged(
    {"optim": {"freeze": IMAGE}},
    {"optim": {"freeze": IMAGE, "learning_rate": 2e-3, "weight_decay": 0.3},
     "train": {"text_loss_weight": 0.5, "z_loss": 1e-3}},
    optim__warmup_steps=0,
  )  # fmt: skip
  whole, _ = loop.train(c, tmp_path / "whole")
  loop.train(c.at(0), tmp_path / "one")
  second = c.at(1)
  second = dataclasses.replace(
    second, train=dataclasses.replace(second.train, steps=FIRST + SECOND)
  )
  begin = Start(resume_from=f"{tmp_path / 'one'}@{FIRST}")
  state, _ = loop.train(second, tmp_path / "two", begin=begin)
  for name in ("params", "ema_params", "opt_state"):
    assert same(getattr(state, name), getattr(whole, name)), name


def test_a_second_run_with_other_globs_starts_from_the_first(straight, tmp_path):
  c = small.scenes(optim__freeze=("*", "!text_head/*"), train__steps=2)
  begin = Start(init_from=str(straight[0]))
  state, _ = loop.train(c, tmp_path, begin=begin)
  old = named(straight[2].params)
  for tree in (state.params, state.ema_params):
    for path, x in named(tree).items():
      assert (x.tobytes() == old[path].tobytes()) == (path != "text_head/kernel"), path
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
  assert len(moments) == 2  # of the one kernel that is trained


@pytest.mark.parametrize(
  ("globs", "message"),
  [
    (["patch_codecs/*"], r"stages.all.optim.freeze: 'patch_codecs/\*' matches no .*"
                         r"nearest are patch_codec/\*"),
    (["*"], r"stages.all.optim.freeze: '\*' freezes every parameter"),
  ],
)  # fmt: skip
def test_a_stage_that_cannot_be_is_refused_before_compiling(tmp_path, globs, message):
  c = staged({}, {"optim": {"freeze": globs}})
  with Compiled() as compiled, pytest.raises(ConfigError, match=message):
    loop.train(c, tmp_path)
  assert not [r for r in compiled.records if "train_step" in r.getMessage()]
  assert not [r for r in compiled.records if "init" in r.getMessage()]


def test_stages_that_differ_in_rates_and_data_share_a_program():
  rates = {"optim": {"learning_rate": 1.0, "warmup_steps": 7}}
  data = {"data": {"sources": {"captions": {"weight": 3.0}}}}
  f = StepFunctions(staged({}, {**rates, **data}), small.VOCABULARY.size)
  assert f.train_at(0) is f.train_at(FIRST) is f.train
  other = {"train": {"z_loss": 1.0}}
  f = StepFunctions(staged({}, other), small.VOCABULARY.size)
  assert f.train_at(FIRST - 1) is f.train is not f.train_at(FIRST)
  assert f.train_at(FIRST) is f.train_at(FIRST + SECOND)


def test_a_stage_is_not_judged_by_the_losses_of_the_one_before():
  c = config(guard__spike_factor=3.0, guard__window=2)
  seen = []

  def step(state, batch):
    seen.append(int(state.guard.accepted))
    return state, batch

  train = stages.from_the_start(c, functools.partial(step))
  state = small.functions(config()).init()
  guard = guards.init_guard(c.guard).replace(accepted=np.int32(5))
  for at in (0, FIRST - 1, FIRST, FIRST + 1):
    train(state.replace(step=np.int32(at), guard=guard), None)
  assert seen == [5, 5, 0, 5]


@pytest.mark.slow
def test_a_small_model_learns_to_write_and_then_to_draw(tmp_path):
  """Eight documents of each; what is learnt in the first stage is still there."""
  values = to_dict(config(data__caption_dropout=0.0))
  for source in values["data"]["sources"].values():
    source["options"]["num_documents"] = 8
  values["stages"]["captions"]["steps"], values["stages"]["all"]["steps"] = 50, 60
  values["stages"]["all"]["optim"] = {"learning_rate": 1e-2}
  values["train"].update(steps=0, log_every=10)
  values["checkpoint"]["every_steps"] = 0
  loop.train(from_config_dict(values), tmp_path)
  lines = {x["step"]: x for x in read_metrics(tmp_path) if "train/loss" in x}
  text = {step: x["train/text_nll"] for step, x in lines.items()}
  image = {step: x["train/image_mse"] for step, x in lines.items()}
  assert text[40] < 0.25 * text[0] and text[100] < 0.1 * text[0], text
  assert image[40] > 0.9 * image[0] and image[100] < 0.2 * image[50], image
