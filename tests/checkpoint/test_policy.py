"""Laws of when to save and what to keep."""

import itertools

import pytest

from tests.checkpoint.states import options, state
from unijax.checkpoint.policy import Policy
from unijax.checkpoint.store import Store

NLL = "held_out/text_nll"


def test_by_step():
  policy = Policy(options(every_steps=3))
  assert [s for s in range(1, 10) if policy.due(s, {})] == [3, 6, 9]
  never = Policy(options(every_steps=0))
  assert not any(never.due(s, {NLL: 1.0}) for s in range(1, 10))


def test_by_the_clock():
  now = [0.0]
  policy = Policy(options(every_steps=0, every_minutes=2.0), clock=lambda: now[0])
  saved = []
  for step in range(1, 8):  # fifty seconds a step
    now[0] += 50
    if policy.due(step, {}):
      policy.saved({})
      saved.append(step)
  assert saved == [3, 6]


@pytest.mark.parametrize(("mode", "saved"), [("min", [1, 3]), ("max", [1, 2, 6])])
def test_by_the_best_metric(mode, saved):
  policy = Policy(options(every_steps=0, best_metric=NLL, best_mode=mode))
  values = [2.0, 2.5, 1.0, 1.5, float("nan"), 3.0]
  found = []
  for step, value in enumerate(values, 1):
    if policy.due(step, {NLL: value}):
      policy.saved({NLL: value})
      found.append(step)
    assert not policy.due(step, {})  # nothing was measured
  assert found == saved


def test_what_is_kept():
  measured = {s: {NLL: v} for s, v in {2: 3.0, 4: 1.0, 6: 2.0, 8: 4.0, 10: 5.0}.items()}
  kept = lambda **knobs: sorted(Policy(options(**knobs)).kept(measured))
  assert kept(keep=2) == [8, 10]
  assert kept(keep=9) == [2, 4, 6, 8, 10]
  assert kept(keep=1, keep_every_steps=4) == [4, 8, 10]
  assert kept(keep=1, best_metric=NLL, keep_best=2) == [4, 6, 10]
  assert kept(keep=1, best_metric=NLL, best_mode="max") == [10]
  assert kept(keep=1, best_metric="other") == [10]


def test_some_steps_are_always_saved_and_kept():
  policy = Policy(options(every_steps=0, keep=1), always=frozenset({3, 5, 99}))
  assert [s for s in range(1, 10) if policy.due(s, {})] == [3, 5]
  assert policy.kept({s: {} for s in (2, 3, 4, 5, 8)}) == {3, 5, 8}


def test_the_latest_is_always_kept():
  for keep, every, best in itertools.product((1, 2), (0, 3), ("", NLL)):
    policy = Policy(options(keep=keep, keep_every_steps=every, best_metric=best))
    for steps in itertools.combinations(range(1, 8), 3):
      assert max(steps) in policy.kept({s: {NLL: s} for s in steps})


def test_the_best_is_remembered_by_the_directory(tmp_path):
  knobs = options(every_steps=0, best_metric=NLL, keep=1, keep_best=1)
  for step, value, due in ((1, 2.0, True), (2, 3.0, False), (3, 1.0, True)):
    store = Store(tmp_path, knobs)  # as after a restart
    assert store.due(step, {NLL: value}) == due
    store.save(state(step), step, {NLL: value})
    store.wait()
    best = min((1, 2.0), (step, value), key=lambda x: x[1])
    assert store.steps() == sorted({best[0], step})
    store.close()
