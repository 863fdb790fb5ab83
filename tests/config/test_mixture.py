"""Weights of sources that change over training."""

import copy

from tests import small
from tests.config.test_mistakes import problems
from unijax.config import from_config_dict, to_dict


def test_schedules_of_weights():
  def change(v):
    v["data"]["mixture"] = "linear"
    scenes = v["data"]["sources"]["scenes"]
    v["data"]["sources"] = {
      "a": {**scenes, "schedule": [[5, 1.0], [5, 2.0]], "reference": 2.0},
      "b": {**scenes, "schedule": [[0, 1.0], [5, -2.0]]},
      "c": {**scenes, "schedule": []},
    }

  assert problems(change) == [
    "data.sources.a.schedule: steps must rise from above 0, got [5, 5]",
    "data.sources.a.reference: read only with data.mixture='loss'",
    "data.sources.b.schedule: steps must rise from above 0, got [0, 5]",
    "data.sources.b.schedule: weights must be >= 0",
  ]

  def other(v):
    v["data"]["sources"]["scenes"]["schedule"] = [[5, 1.0]]

  found = problems(lambda v: v["data"].update(mixture="loss"))
  assert len(found) == 1 and "scenes.reference: data.mixture='loss' needs" in found[0]
  message = "schedule: read only with data.mixture 'step' or 'linear'"
  assert problems(other) == [f"data.sources.scenes.{message}"]
  assert problems(lambda v: v["data"].update(mixture="step")) == [
    "data.mixture: 'step' needs a schedule in one of data.sources"
  ]
  for wrong, text in ((3, "3"), ([[1]], "[[1]]"), ([[1.5, 2.0]], "float 1.5")):
    found = problems(
      lambda v, w=wrong: v["data"]["sources"]["scenes"].update(schedule=w)
    )
    assert found[0].startswith(
      "data.sources.scenes.schedule: expected"
    ) and text in str(found)


def test_a_mixture_without_weight_at_some_step():
  def change(v):
    v["data"]["mixture"] = "step"
    scenes = v["data"]["sources"]["scenes"]
    v["data"]["sources"] = {
      "a": {**scenes, "weight": 0.0, "schedule": [[9, 1.0]]},
      "b": {**scenes, "weight": 1.0, "schedule": [[5, 0.0]]},
    }

  assert problems(change) == ["data.sources: at step 5 all weights are zero"]
  values = copy.deepcopy(to_dict(small.config()))
  change(values)
  values["data"]["mixture"] = "linear"  # the first is half way up at step 5
  assert from_config_dict(values).data.sources[0].weight_at(5, True) == 5 / 9


def test_a_scheduled_config_survives_being_written_and_read():
  values = to_dict(small.config())
  values["data"]["mixture"] = "step"
  values["data"]["sources"]["scenes"]["schedule"] = [[5, 0.5], [9, 2]]
  c = from_config_dict(values)
  assert c.data.sources[0].schedule == ((5, 0.5), (9, 2.0))
  assert from_config_dict(to_dict(c)) == c
