"""Configs written, read, compared, and changed from the command line."""

import copy
import dataclasses

import pytest

from tests import small
from tests.config.test_builds import CONFIGS
from tests.conftest import ROOT
from unijax import config as config_lib
from unijax import config_file
from unijax.config import Config, ConfigError, from_config_dict, to_dict


def test_a_config_survives_being_written_and_read():
  for name in CONFIGS[:3]:
    c = config_file.load([f"--config={ROOT / name}"])
    assert from_config_dict(to_dict(c)) == c
  with pytest.raises(dataclasses.FrozenInstanceError):
    c.seed = 1


def test_difference_names_what_differs():
  one = to_dict(small.config())
  two = copy.deepcopy(one)
  assert config_lib.difference(one, two) == []
  two["model"]["width"] = 64
  two["data"]["sources"]["more"] = {"kind": "emoji", "weight": 1.0, "options": {}}
  assert config_lib.difference(one, two) == [
    "data.sources.more: '(absent)' -> {'kind': 'emoji', 'weight': 1.0, 'options': {}}",
    "model.width: 32 -> 64",
  ]


TINY = f"--config={ROOT}/configs/transfusion.py:tiny"


def test_overrides():
  c = config_file.load([
    TINY, "--config.model.width=64", "--config.optim.learning_rate", "1",
    "--config.model.qk_norm=false", "--config.data.sources.scenes.weight=3",
  ])  # fmt: skip
  assert c.model.width == 64 and c.optim.learning_rate == 1.0
  assert c.model.qk_norm is False
  assert {s.name: s.weight for s in c.data.sources}["scenes"] == 3.0
  assert isinstance(c, Config)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([TINY, "--config.model.widht=3"], r"unknown knob 'model\.widht': .* \"width\""),
    ([TINY, "--config.modle.width=3"], r"unknown knob 'modle\.width': .* \"model\""),
    ([TINY, "--config.model.width=wide"], r"--config.model.width=wide: invalid .*'wide'"),
    ([TINY, "--config.train.steps=0"], "train.steps: 0 must be > 0"),
    ([TINY, "more"], "unexpected argument 'more': overrides are --config.a.b=value"),
    (["--config=configs/no.py"], "no config file 'configs/no.py': see configs/"),
    (["--config", "configs/no.py:tiny"], "no config file 'configs/no.py': see configs/"),
    ([TINY + "y"], "unknown preset 'tinyy'; known: tiny, "),
    ([], "give --config=FILE"),
  ],
)  # fmt: skip
def test_mistakes_on_the_command_line(arguments, message):
  with pytest.raises(ConfigError, match=message):
    config_file.load(arguments)
