"""Laws of freezing and of learning rates by glob, one optimizer update at a time."""

import ast
import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lmfusion
from tests import small
from tests.train.test_optim import named
from unijax.config import Config, ConfigError, from_config_dict, to_dict
from unijax.train import freeze, tasks
from unijax.train.optim import make_optimizer, peak_rate, run_schedule

SHAPES = {
  "embedding": {"table": (6, 4)},
  "patch_codec": {"enter": {"kernel": (3, 4), "bias": (4,)}},
  "text_head": {"kernel": (4, 6)},
  "transformer": {"blocks": {"mlp": {"in": {"kernel": (2, 4, 8)}},
                             "norm": {"scale": (2, 4)}}},
}  # fmt: skip
IMAGE = ["patch_codec/*"]
NAMES = ["adamw", "muon"]


def params(seed: int):
  """A tree with the names of a model, none of whose numbers is zero."""
  rng = np.random.default_rng(seed)
  fill = lambda shape: jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
  return jax.tree.map(fill, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def config(*stages: dict, **knobs) -> Config:
  """Stages of 5 steps each, with these knobs of optim; none: the run itself."""
  c = small.config(
    **{"optim__warmup_steps": 0, "optim__schedule": "constant",
       "optim__learning_rate": 0.5, "optim__adam_learning_rate": 0.25,
       "optim__weight_decay": 0.1, **knobs}
  )  # fmt: skip
  values = to_dict(c)
  if stages:
    names = [f"s{i}" for i in range(len(stages))]
    values["train"].update(stages=names, steps=0)
    values["stages"] = {
      n: {"steps": 5, "optim": s} for n, s in zip(names, stages, strict=True)
    }
  return from_config_dict(values)


def run(c: Config, steps: int, change=lambda step, gradients: gradients):
  """Optimizer steps through the stages: [(updates, state, parameters after)]."""
  old, done = params(0), []
  state = make_optimizer(c).init(old)
  for step in range(steps):
    update = _compiled(small.key(c), c.stage_of(step))
    gradients = change(step, params(step + 1))
    updates, state = update(gradients, state, old, step=jnp.int32(step))
    old = jax.tree.map(jnp.add, old, updates)
    done.append((updates, state, old))
  return done


@functools.cache
def _compiled(key: str, number: int):
  c = from_config_dict(ast.literal_eval(key))
  return jax.jit(make_optimizer(c, number).update, compiler_options=small.QUICK)


def equal(one, other) -> bool:
  return all(
    np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  )


@pytest.mark.parametrize(
  ("globs", "held"),
  [
    ([], []),
    (["embedding/*"], ["embedding/table"]),
    (["*kernel", "!transformer/*"], ["patch_codec/enter/kernel", "text_head/kernel"]),
    (["*", "!*bias", "!text_head/*", "*table"],
     ["embedding/table", "patch_codec/enter/kernel", "transformer/blocks/mlp/in/kernel",
      "transformer/blocks/norm/scale"]),
    (["!*bias", "patch_codec/*"], ["patch_codec/enter/bias", "patch_codec/enter/kernel"]),
  ],
)  # fmt: skip
def test_the_last_glob_that_matches_decides(globs, held):
  found = named(freeze.mask(globs, params(0)))
  assert sorted(path for path, f in found.items() if f) == held


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    ({"freeze": ["embeding/*"]},
     r"stages.s1.optim.freeze: 'embeding/\*' matches no parameter; the nearest are "
     r"embedding/\*"),
    ({"freeze": ["*", "!txt_head/kernel"]}, r"'!txt_head/kernel' matches no .*text_head"),
    ({"freeze": ["*"]}, r"stages.s1.optim.freeze: '\*' freezes every parameter.*'!GLOB'"),
    ({"rates": [["blocks/*", 0.5]]},
     r"stages.s1.optim.rates: 'blocks/\*' matches no parameter.*transformer/blocks"),
  ],
)  # fmt: skip
def test_globs_that_do_nothing_are_refused_when_the_state_is_made(knobs, message):
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(make_optimizer(config({}, knobs)).init, params(0))
  message = message.replace("stages.s1.", "")
  with pytest.raises(ConfigError, match=message):
    alone = config(
      **{f"optim__{k}": tuple(map(_hashable, v)) for k, v in knobs.items()}
    )
    jax.eval_shape(make_optimizer(alone).init, params(0))


def _hashable(x):
  return tuple(x) if isinstance(x, list) else x


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_gets_no_update_and_has_no_state(name):
  c = config(optim__name=name, optim__freeze=tuple(IMAGE))
  for updates, state, _ in run(c, 2):
    for path, x in named(updates).items():
      assert bool((x == 0).all()) == path.startswith("patch_codec"), path
    held = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(state)]
    assert held and not [p for p in held if "patch_codec" in p]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_what_is_frozen_count_in_nothing(name):
  c = config(optim__name=name, optim__freeze=tuple(IMAGE), optim__clip_norm=0.1)
  huge = lambda step, g: {**g, "patch_codec": jax.tree.map(lambda x: 1e9 * x,
                                                           g["patch_codec"])}  # fmt: skip
  assert equal(run(c, 2), run(c, 2, huge))


@pytest.mark.parametrize("name", NAMES)
def test_stages_keep_the_state_of_what_rests(name):
  """Trained, held, trained: as if the steps between had not been."""
  c = config({}, {"freeze": IMAGE}, {}, optim__name=name, optim__clip_norm=1e9)
  done = run(c, 12)
  group = "adam_in_s0_in_s2"
  for updates, state, _ in done[5:10]:
    assert equal(state[group], done[4][1][group])
    assert all((x == 0).all() for x in jax.tree.leaves(updates["patch_codec"]))
    assert (updates["text_head"]["kernel"] != 0).all()
  straight = config({}, {}, {}, optim__name=name, optim__clip_norm=1e9)
  skip = lambda step, g: params(step + 1 if step < 5 else step + 6)
  want = run(straight, 7, skip)[-1][2]["patch_codec"]
  got = done[-1][2]["patch_codec"]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_update_after_a_rest_is_that_of_a_fresh_optimizer(name):
  c = config({"freeze": IMAGE}, {}, optim__name=name, optim__clip_norm=1e9)
  late = run(c, 6)[-1][0]["patch_codec"]
  alone = config(optim__name=name, optim__clip_norm=1e9)
  fresh = run(alone, 1, lambda step, g: params(6))[-1][0]["patch_codec"]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), late, fresh)


@pytest.mark.parametrize("name", NAMES)
def test_factors_scale_the_updates_and_nothing_else(name):
  rates = (("text_head/*", 0.5), ("*kernel", 0.25))
  plain = run(config(optim__name=name), 1)[0][0]
  scaled = run(config(optim__name=name, optim__rates=rates), 1)[0][0]
  for path, x in named(scaled).items():
    factor = 0.5 if path == "text_head/kernel" else 0.25 if "kernel" in path else 1.0
    np.testing.assert_allclose(x, factor * named(plain)[path], rtol=1e-6, err_msg=path)


def test_stages_restart_their_schedule_or_go_on_with_that_of_the_run():
  stages = ({}, {"learning_rate": 0.1})
  knobs = {"optim__warmup_steps": 2, "optim__schedule": "linear",
           "optim__final_fraction": 0.0}  # fmt: skip
  again = run_schedule(config(*stages, **knobs), peak_rate)
  got = [float(again(i)) for i in range(10)]
  one = [0.0, 0.5, 1.0, 2 / 3, 1 / 3]
  np.testing.assert_allclose(got, [0.5 * x for x in one] + [0.1 * x for x in one], 1e-6)
  knobs["optim__stage_schedule"] = "continue"
  on = run_schedule(config(*stages, **knobs), peak_rate)
  shape = [0.0, 0.5, *(1 - i / 8 for i in range(8))]
  peaks = [0.5] * 5 + [0.1] * 5
  got = [float(on(i)) for i in range(10)]
  np.testing.assert_allclose(got, np.multiply(peaks, shape), 1e-6)


def test_the_average_of_what_is_frozen_nears_it_and_stays():
  numbers = jnp.asarray(np.random.default_rng(0).random(1000), jnp.float32)
  new = {"a": numbers, "b": numbers}
  held, decay = {"a": True, "b": False}, 0.999
  usual = freeze.average({"a": False, "b": False}, new, new, decay)
  assert not equal(usual, new)  # it rounds
  assert equal(freeze.average(held, new, new, decay)["a"], new["a"])
  old = jax.tree.map(lambda x: x + 1, new)
  got = freeze.average(held, new, old, decay)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 0.999, 1e-6), got, new)
  for _ in range(100):
    old = freeze.average(held, new, old, 0.5)
  np.testing.assert_allclose(old["a"], new["a"], rtol=3e-7)


def test_a_gradient_sees_what_is_frozen_as_a_constant():
  held = freeze.mask(IMAGE, params(0))
  loss = lambda p: sum(jnp.sum(x**2) for x in jax.tree.leaves(freeze.stop(held, p)))
  for path, g in named(jax.grad(loss)(params(0))).items():
    assert bool((g == 0).all()) == path.startswith("patch_codec")


def shapes_of(c: Config):
  """Shapes of the parameters of a config, by path."""
  task = tasks.make_task(c, c.data.vocab or 300)
  init = lambda key: flax.linen.unbox(task.init_params(key))
  return jax.eval_shape(init, jax.random.key(0))


@pytest.mark.parametrize("preset", ["tiny", "8B"])
def test_a_frozen_language_model_is_the_text_copy_its_table_and_its_head(preset):
  c = from_config_dict(lmfusion.get_config(preset))
  at = [c.at(i) for i in range(len(c.starts))]
  tree = shapes_of(c)
  held = [named(freeze.mask(x.optim.freeze, tree)) for x in at]
  for path, frozen in held[-1].items():
    assert frozen == ("/text/" in path or path.split("/")[0] in LANGUAGE), path
  if preset == "tiny":  # before it, the other way round
    assert [not x for x in held[0].values()] == list(held[1].values())
  else:
    count = sum(x.size for path, x in named(tree).items() if held[0][path])
    assert count == lmfusion.PUBLISHED[preset]


LANGUAGE = ("embedding", "text_head")


def test_a_frozen_text_copy_stays_as_it_is_bit_for_bit():
  c = small.config(
    model__sharing="full", optim__freeze=lmfusion.TEXT, optim__warmup_steps=0,
    data__sources={"scenes": {"kind": "scenes", "weight": 1.0, "options": {}}},
  )  # fmt: skip
  batch = small.batch(c, [small.draw("ab", 1)], [small.describe("c", 2)])
  functions = small.functions(c)
  state = functions.init()
  both = lambda s: named({"now": s.params, "average": s.ema_params})
  before = jax.tree.map(np.asarray, both(state))  # the state is donated
  state, _ = functions.train(state, batch)
  for path, x in both(state).items():
    language = "/text/" in path or any(f"/{name}/" in path for name in LANGUAGE)
    assert equal(x, before[path]) == language, path
