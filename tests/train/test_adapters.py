"""Laws of low-rank pairs: where they are, what they change, and what they leave alone."""

import dataclasses
import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from configs import dreamllm, hunyuan_image3, janusflow, mot, qwen_vl
from tests import small
from tests.train.test_freeze import equal
from tests.train.test_optim import named
from unijax import low_rank
from unijax.checkpoint.store import Store
from unijax.config import ConfigError, from_config_dict, to_dict
from unijax.dryrun.compiled import shapes
from unijax.train import adapters, tasks
from unijax.train.optim import make_optimizer

RANK, PAIRS = 2, f"{low_rank.PAIRS}/"
QUIET = lambda text: None


def config(**knobs):
  """Pairs on the blocks, at a rate that moves them."""
  return small.config(
    **{"lora__rank": RANK, "lora__alpha": 4.0, "optim__warmup_steps": 0,
       "optim__learning_rate": 3e-3, "optim__schedule": "constant", **knobs}
  )  # fmt: skip


def boxed_of(c):
  """Shapes of all parameters in their boxes, and the task."""
  task = tasks.make_task(c, small.VOCABULARY.size)
  return task, jax.eval_shape(task.init_params, jax.eval_shape(jax.random.key, 0))


def pairs_of(c) -> set[str]:
  tree = flax.linen.unbox(boxed_of(c)[1])
  return {n.rsplit("/", 1)[0] for n in named(tree) if n.startswith(PAIRS)}


def test_sums_over_trees():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  base = {"x": {"kernel": draw(3, 4, 6), "bias": draw(3, 6), "y": {"kernel": draw(4, 5)}},
          "z": draw(2)}  # fmt: skip
  pairs = {"x": {low_rank.A: draw(3, 4, 2), low_rank.B: draw(3, 2, 6)}}
  both = {**base, low_rank.PAIRS: pairs}
  joined, merged = low_rank.joined(both, 0.5), low_rank.merged(both, 0.5)
  assert joined["x"].keys() - base["x"].keys() == {low_rank.A, low_rank.B}
  assert equal(joined["x"][low_rank.A], 0.5 * pairs["x"][low_rank.A])
  a, b = pairs["x"].values()
  want = np.einsum("nir,nro->nio", np.float64(a), b) * 0.5 + base["x"]["kernel"]
  np.testing.assert_allclose(merged["x"].pop("kernel"), want, rtol=1e-5, atol=1e-6)
  del base["x"]["kernel"]
  assert equal(merged, base) and merged.keys() == base.keys()
  part = low_rank.only(both, {"z": 0, low_rank.PAIRS: {"x": {low_rank.B: 0}}})
  assert named(part).keys() == {"z", f"{PAIRS}x/{low_rank.B}"}
  changed = low_rank.overlaid(both, jax.tree.map(lambda x: x + 1, part))
  moved = {n for n, x in named(changed).items() if not equal(x, named(both)[n])}
  assert moved == named(part).keys()


# -- where they are ------------------------------------------------------------------------


def test_targets_are_globs_of_which_the_last_that_matches_decides():
  blocks = {f"{PAIRS}transformer/blocks/{n}" for n in
            ("attention/q", "attention/k", "attention/v", "attention/out", "mlp/gate",
             "mlp/up", "mlp/down")}  # fmt: skip
  assert pairs_of(config()) == blocks
  some = ("transformer/*", "!*/mlp/*", "*/up/*", "text_head/kernel")
  want = {n for n in blocks if "mlp" not in n or n.endswith("up")}
  assert pairs_of(config(lora__targets=some)) == {*want, f"{PAIRS}text_head"}


@pytest.mark.parametrize(
  ("targets", "message"),
  [
    (
      ("transformer/blocks/mlp/upp/*",),
      r"targets: '.*upp/\*' matches no kernel.*mlp/up",
    ),
    (("*", "!*/atention/*"), r"targets: '!\*/atention/\*' matches no kernel"),
    (("*norm*",), "matches no kernel of a linear map"),
    (("patch_codec/conv*", "*"), "matches no kernel of a linear map"),
    (("*", "!*"), "leave no kernel for a pair: begin with"),
  ],
)
def test_targets_that_do_nothing_are_refused(targets, message):
  with pytest.raises(ConfigError, match=message):
    boxed_of(config(lora__targets=targets, model__patch_codec="unet"))


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    ({"optim__name": "muon"}, "optim.name: 'muon' .* lora.rank=2 they rest"),
    ({"lora__targets": ()}, r"lora.targets: \(\) names no kernel"),
    ({"lora__rank": -1}, "lora.rank: -1 must be >= 0"),
    ({"lora__alpha": 0.0}, "lora.alpha: 0.0 must be > 0"),
  ],
)
def test_knobs_that_clash_are_named(knobs, message):
  with pytest.raises(ConfigError, match=message):
    config(**knobs)


EVERY = {
  "copies": mot, "experts": hunyuan_image3, "decoder": dreamllm, "unet": janusflow,
  "encoder": qwen_vl,
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_every_pair_is_read_and_has_the_axes_of_its_kernel(name):
  """With a pair beside every kernel that can have one, each of them is in the loss."""
  c = from_config_dict(EVERY[name].get_config("tiny"))
  lora = dataclasses.replace(c.lora, rank=RANK, targets=("*",))
  optim = dataclasses.replace(c.optim, name="adamw")
  c = dataclasses.replace(c, lora=lora, optim=optim)
  loader = tasks.make_loader(c)
  task = tasks.make_task(c, loader.vocab)
  boxed = jax.eval_shape(task.init_params, jax.eval_shape(jax.random.key, 0))
  boxes = {n: b for n, b in adapters._maps(boxed).items() if not n.startswith(PAIRS)}
  assert len(boxes) > 5
  for path, box in boxes.items():
    pair = boxed[low_rank.PAIRS]
    for folder in path.split("/")[:-1]:
      pair = pair[folder]
    a, b = pair[low_rank.A], pair[low_rank.B]
    assert (a.names[:-1], b.names[-1]) == (box.names[:-1], box.names[-1]), path
    assert a.value.shape == (*box.value.shape[:-1], RANK), path
    assert b.value.shape == (*box.value.shape[:-2], RANK, box.value.shape[-1]), path
  params = flax.linen.unbox(boxed)
  batch = shapes(loader.batch(0, range(1)), 1)
  loss = lambda params, batch, key: task.loss(params, batch, key)[0]
  key = jax.eval_shape(jax.random.key, 0)
  traced = jax.make_jaxpr(loss)(params, batch, key).jaxpr
  used = partial_eval.dce_jaxpr(traced, [True])[1]
  paths = [n for n in named(params)]
  idle = [n for n, u in zip(paths, used, strict=False) if not u]
  assert not [n for n in idle if n.startswith(PAIRS)]


# -- what they change ----------------------------------------------------------------------


@functools.cache
def trained(steps: int = 3):
  """A run's states from the first to the last, and the batch of every step."""
  c = config()
  functions = small.functions(c)
  batch = small.batch(c, [small.draw("ab", 1)], [small.describe("c", 2)])
  # On its device by name, as what is restored: or the step would compile again.
  state, states, losses = jax.device_put(functions.init(), jax.devices()[0]), [], []
  for _ in range(steps):
    states.append(jax.tree.map(np.asarray, state))  # the state is donated
    state, metrics = functions.train(state, batch)
    losses.append(float(metrics["loss"].total))
  return functions, batch, [*states, jax.tree.map(np.asarray, state)], losses


def base_of(tree):
  return {n: x for n, x in named(tree).items() if not n.startswith(PAIRS)}


def test_a_fresh_run_has_the_parameters_of_one_without_pairs():
  _, _, states, _ = trained()
  plain = small.functions(config(lora__rank=0)).init().params
  assert equal(base_of(states[0].params), named(plain))


def test_pairs_alone_move_and_have_moments_and_averages():
  functions, _, states, losses = trained()
  assert losses[-1] < losses[0]
  for state in states[1:]:
    assert equal(base_of(state.params), base_of(states[0].params))
  first, last = (named(s.params) for s in (states[0], states[-1]))
  pairs = [n for n in first if n.startswith(PAIRS)]
  assert len(pairs) == 14 and not any(equal(first[n], last[n]) for n in pairs)
  assert named(states[-1].ema_params).keys() == set(pairs)
  held = [
    jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(states[-1].opt_state)
  ]
  assert held and all(PAIRS[:-1] in p or "count" in p for p in held)


def test_pairs_change_nothing_at_first_and_then_what_merged_kernels_do():
  functions, batch, states, _ = trained()
  task = tasks.make_task(config(), small.VOCABULARY.size)
  loss, plain = (
    jax.jit(lambda p, t=t: t.loss(p, batch, jax.random.key(3))[0],
            compiler_options=small.QUICK)
    for t in (task, task.plain)
  )  # fmt: skip
  without = lambda s: {n: x for n, x in s.params.items() if n != low_rank.PAIRS}
  first, last = states[0], states[-1]
  assert loss(first.params) == plain(without(first))  # to the last bit
  merged = functions.averaged(last)
  assert named(merged).keys() == base_of(last.params).keys()
  averaged = low_rank.overlaid(last.params, last.ema_params)
  np.testing.assert_allclose(plain(merged), loss(averaged), rtol=1e-5)
  assert abs(plain(merged) - plain(without(last))) > 1e-4


def test_a_state_is_saved_and_goes_on_bit_for_bit(tmp_path):
  functions, batch, states, _ = trained()
  store = Store(tmp_path, say=QUIET)
  store.save(jax.device_put(states[1]), 1)
  state = store.restore(functions.abstract_state())
  for want in states[2:]:
    state, _ = functions.train(state, batch)
    assert equal(state, want)
  store.close()


def test_what_is_taken_back_is_trained_whole_and_stages_change_it():
  c = config(optim__freeze=("!text_head/*", f"{PAIRS}*/mlp/*"))
  params = flax.linen.unbox(boxed_of(c)[1])
  kept = named(adapters.moving(c, params)).keys()
  assert {n for n in kept if not n.startswith(PAIRS)} == {"text_head/kernel"}
  assert not [n for n in kept if "/mlp/" in n] and len(kept) == 1 + 8
  values = to_dict(config())
  opened = {"steps": 2, "optim": {"freeze": ["!text_head/*"]}}
  values["stages"] = {"pairs": {"steps": 1}, "head": opened}
  values["train"].update(stages=["pairs", "head"], steps=0)
  staged = from_config_dict(values)
  kept = named(adapters.moving(staged, params)).keys()
  assert len(kept) == 1 + 14
  groups = jax.eval_shape(make_optimizer(staged).init, params)
  assert groups.keys() == {"adam", "adam_in_head"}
  held = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(groups)]
  assert sum("text_head" in p for p in held) == 2  # moments
  assert not [p for p in held if "embedding" in p]


@pytest.mark.slow
def test_pairs_learn_a_new_task_beside_a_base_that_rests():
  """A base that has learnt captions draws after pairs of rank 8, and only then."""
  options = {"num_documents": 64, "max_objects": 1, "grid": 2}
  of = lambda task: {
    task: {
      "kind": "scenes",
      "weight": 1.0,
      "options": {**options, "tasks": {task: 1.0}},
    }
  }
  knobs = dict(optim__learning_rate=3e-3, train__batch_size=4, train__steps=300)
  first = small.scenes(data__sources=of("describe"), **knobs)
  second = small.scenes(
    data__sources=of("draw"), lora__rank=8, lora__targets=("*",), **knobs
  )
  base = _steps(first, small.functions(first).init())
  start = small.functions(second).init()
  params = jax.tree.map(jnp.copy, {**start.params, **base.params})
  tuned = _steps(second, start.replace(params=params))
  functions = small.functions(second)
  batch = tasks.make_loader(second, held_out=True).batch(0)
  loss = lambda p: float(functions.evaluate(p, batch, jax.random.key(0))["loss"].total)
  now = low_rank.merged(tuned.params, adapters.scale(second))
  assert loss(now) < 0.5 * loss(base.params)


def _steps(c, state):
  functions, loader = small.functions(c), tasks.make_loader(c)
  for step in range(c.train.steps):
    state, _ = functions.train(state, functions.place(loader.batch(step)))
  return state
