"""Laws of the guard: what is refused leaves no trace but its count."""

import collections
import dataclasses
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.checkpoint.fits import abstract_state
from unijax.checkpoint.store import Store
from unijax.data.loader import Loader
from unijax.train import guards, loop, tasks
from unijax.train.interrupt import Interrupted
from unijax.train.metrics import read_metrics, to_scalars

WINDOW, PATIENCE = 4, 3


def config(**knobs):
  guard = dict(guard__spike_factor=10.0, guard__window=WINDOW, guard__patience=PATIENCE)
  return small.scenes(**guard, **knobs)


def poison(batch, kind: str):
  """A batch that must be refused, for a reason."""
  factor = {"nan": np.nan, "inf": 1e25, "spike": 50.0}[kind]
  return dataclasses.replace(batch, patches_BTC=batch.patches_BTC * np.float32(factor))


class Poisoned(Loader):
  """The loader of a run in which some batches are bad."""

  bad: dict[int, str] = {}

  def iterate(self, step, part=None):
    inner = super().iterate(step, part)
    try:
      for number, batch in enumerate(inner, step):
        yield poison(batch, self.bad[number]) if number in self.bad else batch
    finally:
      inner.close()


@pytest.fixture
def poisoned(monkeypatch):
  """Sets which batches are bad: {number: kind}."""
  monkeypatch.setattr(tasks.UnifiedTask, "loader", staticmethod(Poisoned))
  return lambda bad: monkeypatch.setattr(Poisoned, "bad", bad)


def copy(tree):
  return jax.tree.map(jnp.copy, tree)


def assert_same(one, other) -> None:
  """Bit for bit; NaN is equal to itself."""
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)


# -- the rule ----------------------------------------------------------------------------


def reference(config, steps):
  """The rule in plain Python: whether each (loss, gradient norm, norm) counts."""
  window, counted, in_a_row = collections.deque(maxlen=config.window), [], 0
  nonfinite = spikes = 0
  for loss, grad_norm, param_norm in steps:
    finite = bool(np.isfinite([loss, grad_norm, param_norm]).all())
    spike = finite and config.spike_factor > 0 and len(window) == config.window
    if spike:
      medians = np.median(np.array(window, np.float32), axis=0)
      spike = (np.array([loss, grad_norm]) > config.spike_factor * medians).any()
    nonfinite, spikes = nonfinite + (not finite), spikes + bool(spike)
    counted.append(finite and not spike and in_a_row < config.patience)
    in_a_row = 0 if counted[-1] else in_a_row + 1
    if counted[-1]:
      window.append((loss, grad_norm))
  return counted, (nonfinite, spikes, in_a_row, sum(counted))


@pytest.mark.parametrize("factor", [0.0, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_rule_against_plain_python(factor, seed):
  """Random sequences; every third has so much refused that patience ends."""
  c = dataclasses.replace(config().guard, spike_factor=factor)
  rng = np.random.default_rng(seed)
  steps = rng.uniform(1.0, 4.0, (60, 3)).astype(np.float32)
  bad = rng.random((60, 3)) < (0.2 if seed % 3 == 2 else 0.05)
  steps[bad] = rng.choice([np.nan, np.inf, -np.inf, 400.0, 1e30], bad.sum())
  apply = jax.jit(functools.partial(guards.apply, c))
  guard, counted = guards.init_guard(c), []
  for step in steps:
    ok, guard = apply(guard, *step)
    counted.append(bool(ok))
  want, totals = reference(c, steps)
  assert counted == want
  got = (guard.nonfinite, guard.spikes, guard.in_a_row, guard.accepted)
  assert tuple(map(int, got)) == totals
  assert 0 < sum(want) < 60 and (totals[1] > 0) == (factor > 0)
  if seed % 3 == 2:
    assert totals[2] > PATIENCE  # it stays so once it is so


# -- one step ----------------------------------------------------------------------------


@functools.cache
def after_five():
  """A state after five good steps, its functions, and the batches from there on."""
  c = config()
  functions, loader = small.functions(c), Loader(c)
  state = functions.init()
  for i in range(5):
    state, _ = functions.train(state, loader.batch(i))
  return functions, state, [loader.batch(i) for i in (5, 6)]


@pytest.mark.parametrize("kind", ["nan", "inf", "spike", "gradient", "optimizer"])
def test_a_refused_step_changes_nothing_but_its_count(kind):
  functions, good, (batch, after) = after_five()
  state = copy(good)
  if kind == "gradient":  # of what lies below the text head it overflows
    state.params["text_head"]["kernel"] *= 1e25
  elif kind == "optimizer":  # loss and gradient look well, the update does not
    state = state.replace(
      opt_state=jax.tree.map(lambda x: x * np.nan if x.ndim else x, state.opt_state)
    )
  else:
    batch = poison(batch, kind)
  before = copy(state)
  new, metrics = functions.train(state, batch)
  scalars = to_scalars(metrics)
  blame = {"gradient": "grad_norm", "optimizer": "param_norm"}.get(kind, "loss")
  assert np.isfinite(scalars[blame]) == (kind == "spike")
  if kind == "optimizer":
    assert np.isfinite([scalars["loss"], scalars["grad_norm"]]).all()
  for name in ("params", "ema_params", "opt_state", "key_data"):
    assert_same(getattr(new, name), getattr(before, name))
  assert int(new.step) == 6  # it is the place in the data
  counts = dict(nonfinite=int(kind != "spike"), spikes=int(kind == "spike"), in_a_row=1)
  want = before.guard.replace(**{k: jnp.int32(v) for k, v in counts.items()})
  assert_same(new.guard, want)
  if kind not in ("gradient", "optimizer"):
    again, _ = functions.train(copy(new), after)
    assert int(again.guard.in_a_row) == 0 and int(again.guard.accepted) == 6
    assert float(again.guard.loss_W[5 % WINDOW]) != float(new.guard.loss_W[5 % WINDOW])
    leaves = zip(*map(jax.tree.leaves, (again.params, new.params)), strict=True)
    assert any((a != b).any() for a, b in leaves)


# -- a run -------------------------------------------------------------------------------


def test_counters_of_a_run_are_exact_and_resuming_keeps_them(poisoned, tmp_path):
  """Spikes before the window is full are none; the guard's state is checkpointed."""
  poisoned({1: "spike", 5: "nan", 7: "inf", 8: "spike"})
  c = config(train__steps=12, checkpoint__every_steps=100)
  straight, _ = loop.train(c, tmp_path / "straight")
  guard = straight.guard
  assert [int(guard.nonfinite), int(guard.spikes), int(guard.in_a_row)] == [2, 1, 0]
  assert int(guard.accepted) == 9 and int(straight.step) == 12
  lines = read_metrics(tmp_path / "straight")
  assert [x["train/skipped_nonfinite"] for x in lines] == [0] * 5 + [1, 1] + [2] * 5
  assert [x["train/skipped_spike"] for x in lines] == [0] * 8 + [1] * 4
  assert [x["train/skipped_in_a_row"] for x in lines] == [0] * 5 + [1, 0, 1, 2, 0, 0, 0]
  assert [x["train/loss"] is None for x in lines] == [i in (5, 7) for i in range(12)]

  stop = loop.Hook(8, lambda *_: os.kill(os.getpid(), signal.SIGINT))
  with pytest.raises(Interrupted):
    loop.train(c, tmp_path / "stopped", [stop])  # between the two in a row
  resumed, _ = loop.train(c, tmp_path / "stopped")
  assert_same(straight, resumed)


def test_too_many_in_a_row_end_the_run_and_keep_the_last_good_state(poisoned, tmp_path):
  """Exactly patience steps are judged, however late the host looks."""
  poisoned({2: "nan", **dict.fromkeys(range(7, 14), "nan")})
  c = config(train__steps=30, checkpoint__every_steps=4, train__log_every=100)
  with pytest.raises(guards.Diverged) as error:
    loop.train(c, tmp_path)
  text = str(error.value)
  assert text.startswith(
    "3 steps in a row were refused (guard.patience), 7 to 9: loss nan"
  )
  assert "4 were not finite and 0 were spikes" in text and "image_mse nan" in text
  assert "Lower optim.learning_rate" in text and "--skip-steps=7:10" in text
  store = Store(tmp_path, read_only=True)
  assert store.steps() == [4, 8]
  kept = store.restore(abstract_state(small.functions(c).init))
  store.close()
  assert int(kept.guard.nonfinite) == 2 and int(kept.guard.accepted) == 6
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept.params))
