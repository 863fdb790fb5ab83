"""Laws of rewinding: a batch left out was never there, whatever happens in between."""

import itertools
import json
import os
import random
import re
import signal

import jax
import pytest

from tests import small
from tests.train.test_guards import assert_same
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.rundir import read_config
from unijax.data.loader import Loader
from unijax.train import loop, skips
from unijax.train.interrupt import Interrupted
from unijax.train.metrics import read_metrics
from unijax.train.skips import Rewind, Skips


class Numbers:
  """A loader whose batches are their numbers; counts what is left open."""

  def __init__(self):
    self.open = 0

  def iterate(self, number, part=None):
    self.open += 1
    try:
      yield from itertools.count(number)
    finally:
      self.open -= 1


@pytest.mark.parametrize("seed", range(30))
def test_steps_read_the_numbers_that_are_left(seed):
  rng = random.Random(seed)
  ranges = [(a, a + rng.randint(1, 9)) for a in rng.choices(range(40), k=seed % 6)]
  left = [n for n in range(120) if not any(a <= n < b for a, b in ranges)]
  made = Skips(ranges)
  assert [made.batch(step) for step in range(50)] == left[:50]
  for step in (0, rng.randrange(50)):
    loader = Numbers()
    batches = made.iterate(loader, step)
    read = [next(batches) for _ in range(20)]
    assert read == [(n, n) for n in left[step : step + 20]] and loader.open == 1
    batches.close()
    assert loader.open == 0


def test_what_is_written_on_the_command_line():
  assert skips.parse(None, None) is None
  assert skips.parse(100, None) == Rewind(100, 0, 0)
  assert skips.parse(100, "120:130") == Rewind(100, 120, 130)
  for wrong in ("120", "130:120", "120:120", "-1:5", "a:b", ":5"):
    with pytest.raises(CheckpointError, match="write A:B with A < B"):
      skips.parse(100, wrong)
  with pytest.raises(CheckpointError, match="say from which checkpoint"):
    skips.parse(None, "1:2")


def config(**knobs):
  return small.scenes(checkpoint__every_steps=2, checkpoint__keep=9, **knobs)


def by_hand(numbers):
  """The state after these batches, and no others, were read."""
  functions, loader = small.functions(small.scenes()), Loader(small.scenes())
  state = functions.init()
  for number in numbers:
    state, _ = functions.train(state, loader.batch(number))
  return state


def numbers(workdir):
  return [(line["step"], line["train/batch"]) for line in read_metrics(workdir)]


def steps(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def test_a_batch_left_out_was_never_there(tmp_path, capfd, monkeypatch):
  c = config()
  loop.train(c, tmp_path)
  before = (tmp_path / "metrics.jsonl").read_text()
  wish = Rewind(2, 3, 5)
  stop = loop.Hook(5, lambda *_: os.kill(os.getpid(), signal.SIGINT))
  rename, moved = os.rename, []

  def killed(path, target):
    if moved:
      raise KeyboardInterrupt
    moved.append(path)
    rename(path, target)

  with monkeypatch.context() as patch:  # between one checkpoint and the next
    patch.setattr("pathlib.Path.rename", killed)
    with pytest.raises(KeyboardInterrupt):
      loop.train(c, tmp_path, rewind=wish)
  with pytest.raises(Interrupted):
    loop.train(c, tmp_path, [stop])  # without the flag: what was begun is finished
  assert "resumed" in capfd.readouterr().err
  for rewind in (wish, None):  # a supervisor says the same again
    state, run = loop.train(c, tmp_path, rewind=rewind)
    assert_same(state, by_hand([0, 1, 2, 5, 6, 7]))
    assert numbers(tmp_path) == [(0, 0), (1, 1), (2, 2), (3, 5), (4, 6), (5, 7)]
  assert run.skips.ranges == [(3, 5)]
  assert "--rewind=2 --skip-steps=3:5 is already done" in capfd.readouterr().err
  assert steps(tmp_path / "rewound/1") == [4, 6]
  assert steps(tmp_path / "checkpoints") == [2, 4, 5, 6]
  assert (tmp_path / "rewound/1/metrics.jsonl").read_text() == before
  assert json.loads((tmp_path / "config.json").read_text())["skipped"] == [[3, 5]]
  assert read_config(tmp_path) == c

  # And once more: numbers are of batches, and an earlier range still holds.
  state, _ = loop.train(c, tmp_path, rewind=Rewind(4, 6, 9))
  assert_same(state, by_hand([0, 1, 2, 5, 9, 10]))
  assert steps(tmp_path / "rewound/2") == [5, 6]


def test_refusals(tmp_path):
  with pytest.raises(CheckpointError, match="holds no run"):
    loop.train(config(), tmp_path, rewind=Rewind(2))
  loop.train(config(), tmp_path)
  for wish, message in {
    Rewind(3): "--rewind=3: .* has checkpoints [2, 4, 6]",
    Rewind(4, 3, 9): "step 4 comes after batch 3. Rewind to .* there are: [2, 4, 6]",
  }.items():
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(CheckpointError, match=pattern):
      loop.train(config(), tmp_path, rewind=wish)
  assert not (tmp_path / "skipped.json").exists()
  assert steps(tmp_path / "checkpoints") == [2, 4, 6]
  for text in ("{", '{"rewinds": [{}]}', '{"rewinds": [{"rewind": 1}]}', "[]"):
    (tmp_path / "skipped.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"skipped\.json is damaged"):
      loop.train(config(), tmp_path)


def test_rewinding_alone_is_the_same_run_again(tmp_path):
  first, _ = loop.train(config(), tmp_path)
  lines = numbers(tmp_path)
  again, _ = loop.train(config(), tmp_path, rewind=Rewind(2))
  assert_same(first, again)
  assert numbers(tmp_path) == lines and jax.device_get(again.step) == 6
