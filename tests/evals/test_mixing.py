"""The hook through which held-out losses move the mixture."""

import pytest

from tests import small
from tests.data.test_parts import SOURCES
from unijax.data.loader import Loader
from unijax.evals import during, mixing
from unijax.train.events import Events
from unijax.train.metrics import read_metrics
from unijax.train.run import open_run


def config(**knobs):
  return small.scenes(
    data__mixture="loss", data__mixture_every=6, train__steps=20, **knobs,
    data__sources={
      "long": {**SOURCES["long"], "reference": 5.0},
      "short": {**SOURCES["short"], "reference": 2.0},
      "unused": {**SOURCES["short"], "weight": 0.0},
    },
  )  # fmt: skip


def test_losses_are_measured_recorded_and_in_force_later(tmp_path):
  c = config()
  (hook,) = mixing.hooks(c)
  assert hook.every == 6 and hook in during.hooks(c)
  functions, loader = small.functions(c), Loader(c, folder=tmp_path / "plan")
  run = open_run(c, tmp_path, loader, functions, Events(tmp_path), 0)
  state = functions.init()
  hook.call(run, state, 6)
  hook.call(run, state, 6)  # a resumed run is there again
  hook.call(run, state, 20)  # the end of training
  run.writer.close()
  (segment,) = loader.history.segments
  assert (segment.step, segment.first_row) == (6, 24)
  line, again = read_metrics(tmp_path)
  assert line == again  # a resumed run has cut the line off
  for name, weight, loss in zip(
    ("long", "short"), segment.weights, segment.losses, strict=True
  ):
    assert line[f"mixture/weight_{name}"] == weight and loss > 0
    assert line[f"mixture/loss_{name}"] == loss
  assert sum(segment.weights) == pytest.approx(1.0)
  # The one farther above its reference gained against the other.
  gained = segment.weights[0] / segment.weights[1] > 0.75 / 0.25
  assert gained == (segment.losses[0] / 5.0 > segment.losses[1] / 2.0)
  again = mixing.source_losses(c, functions, state.ema_params)
  assert tuple(again.values()) == segment.losses


def test_other_mixtures_have_no_hook():
  assert mixing.hooks(small.scenes()) == []
