"""Stages of a config: what they say, and mistakes in them."""

import copy
import json

import pytest

from tests import small
from tests.config.test_mistakes import problems
from unijax import config as config_lib
from unijax import config_file
from unijax.config import Config, from_config_dict, to_dict


def in_stages(v, **more):
  """Two stages, of 2 and 3 steps, in a nested dict."""
  v["train"].update(stages=["one", "two"], steps=0)
  v["stages"] = {"two": {"steps": 3}, "one": {"steps": 2}}
  for name, entry in more.items():
    v["stages"][name].update(entry)


def staged(**more) -> Config:
  values = copy.deepcopy(to_dict(small.config()))
  in_stages(values, **more)
  return from_config_dict(values)


def test_stages_stand_in_their_order_and_change_what_they_say():
  scenes = {"weight": 2, "text_loss": 0.5}
  one = {"optim": {"freeze": ["embedding/*"], "rates": [["*bias", 2]], "schedule": "linear"},
         "train": {"z_loss": 1}, "diffusion": {"time_shift": 3.0},
         "data": {"sources": {"scenes": scenes}}}  # fmt: skip
  c = staged(one=one)
  assert c.train.steps == 5 and c.starts == (0, 2)
  assert [c.stage_of(step) for step in range(6)] == [0, 0, 1, 1, 1, 1]
  first, second = c.at(0), c.at(1)
  assert (first.train.steps, second.train.steps) == (2, 3)
  assert first.stages == second.stages == first.train.stages == ()
  assert first.optim.freeze == ("embedding/*",) and first.optim.rates == (
    ("*bias", 2.0),
  )
  assert first.optim.schedule == "linear" and first.train.z_loss == 1.0
  assert first.diffusion.time_shift == 3.0
  assert (first.data.sources[0].weight, first.data.sources[0].text_loss) == (2.0, 0.5)
  plain = from_config_dict(to_dict(small.config(train__steps=3)))
  assert second == plain and plain.at(0) is plain and plain.starts == (0,)
  assert from_config_dict(json.loads(json.dumps(to_dict(c)))) == c
  other = to_dict(c)
  other["train"]["stages"] = ["two", "one"]
  assert config_lib.difference(to_dict(c), other) == [
    "train.stages: ['one', 'two'] -> ['two', 'one']"
  ]


@pytest.mark.parametrize(
  ("one", "message"),
  [
    ({"optm": {}}, "stages.one.optm: unknown knob (did you mean 'optim'?)"),
    ({"optim": {"lerning_rate": 1.0}},
     "stages.one.optim.lerning_rate: unknown knob (did you mean 'learning_rate'?)"),
    ({"optim": {"name": "muon"}}, "stages.one.optim.name: a stage cannot change it, only "),
    ({"train": {"z_loss": "no"}}, "stages.one.train.z_loss: expected float, got str 'no'"),
    ({"train": {"z_loss": -1.0}}, "stages.one: train.z_loss: -1.0 must be >= 0"),
    ({"steps": 0}, "stages.one.steps: 0 must be > 0"),
    ({"optim": {"rates": [["a", 0.0]]}}, "stages.one: optim.rates of 'a': 0.0 must be > 0"),
    ({"optim": {"rates": [["a"]]}}, "stages.one.optim.rates: expected 2 values, got ('a',)"),
    ({"optim": {"freeze": "a"}}, "stages.one.optim.freeze: expected a tuple, got 'a'"),
    ({"data": {"sources": {"scene": {}}}},
     "stages.one.data.sources.scene: no such source (did you mean 'scenes'?)"),
    ({"data": {"sources": {"scenes": {"wait": 1.0}}}},
     "stages.one.data.sources.scenes.wait: unknown knob (did you mean 'weight'?)"),
    ({"data": {"sources": {"scenes": {"weight": 0.0}}}},
     "stages.one: data.sources: weights must be >= 0 and not all zero"),
  ],
)  # fmt: skip
def test_mistakes_in_a_stage(one, message):
  found = problems(lambda v: in_stages(v, one=one))
  assert len(found) == 1 and found[0].startswith(message), found


def test_mistakes_between_stages():
  def change(v, **knobs):
    in_stages(v)
    for name, value in knobs.items():
      section, _, knob = name.partition("__")
      v[section][knob] = value

  for knobs, message in (
    ({"train__stages": ["one", "tow"]},
     "train.stages: unknown stage 'tow' (did you mean 'two'?)"),
    ({"train__stages": ["one", "one"]}, "train.stages: ('one', 'one') names a stage twice"),
    ({"train__stages": []}, "train.stages: () names none of the stages two, one"),
    ({"train__steps": 7}, "train.steps: 7, but the stages one, two have 5 together"),
  ):  # fmt: skip
    found = problems(lambda v, knobs=knobs: change(v, **knobs))
    assert len(found) == 1 and found[0].startswith(message), found
  found = problems(lambda v: v["train"].update(stages=["one"]))
  assert found == ["train.stages: unknown stage 'one'; stages has none"]
  weight = {"data": {"sources": {"scenes": {"weight": 2.0}}}}

  def scheduled(v):
    in_stages(v, one=weight)
    v["data"]["mixture"] = "step"
    v["data"]["sources"]["scenes"]["schedule"] = [[1, 2.0]]

  found = problems(scheduled)
  assert len(found) == 1 and "'step' and weights in stages both say" in found[0]

  def going_on(v):
    in_stages(v, two={"optim": {"warmup_steps": 3}})
    v["optim"]["stage_schedule"] = "continue"

  assert problems(going_on) == [
    "stages.two.optim.warmup_steps: read only with optim.stage_schedule='restart'"
  ]


def test_a_stage_that_is_not_named_is_left_out():
  values = copy.deepcopy(to_dict(small.config()))
  in_stages(values)
  values["train"]["stages"] = ["two"]
  c = from_config_dict(values)
  assert c.train.steps == 3 and list(to_dict(c)["stages"]) == ["two"]


def test_stages_from_the_command_line(tmp_path):
  path = tmp_path / "c.py"
  path.write_text(
    "from configs import transfusion\n"
    "def get_config():\n  c = transfusion.get_config('tiny')\n"
    "  c.stages.late = {'steps': 4, 'optim': {'freeze': ('embedding/*',)}}\n"
    "  c.stages.early = {'steps': 2}\n"
    "  c.train.stages, c.train.steps = ('late', 'early'), 0\n  return c\n"
  )
  c = config_file.load([
    f"--config={path}", "--config.stages.early.steps=9",
    "--config.stages.late.optim.freeze=('text_head/*', '!*bias')",
  ])  # fmt: skip
  assert [s.name for s in c.stages] == ["late", "early"] and c.starts == (0, 4)
  assert c.train.steps == 13 and c.at(0).optim.freeze == ("text_head/*", "!*bias")
  c = config_file.load([f"--config={path}", "--config.train.stages=('early',)"])
  assert c.train.steps == 2 and len(c.stages) == 1
