"""Building sources by kind, and whether their documents speak in turns."""

import pytest

from unijax import config_file
from unijax.config import ConfigError, SourceConfig
from unijax.data.sources import KINDS, has_turns, make_source


def test_the_presets_of_the_paper_are_plain_and_tiny_speaks_in_turns():
  load = lambda preset: config_file.load([f"--config=configs/transfusion.py:{preset}"])
  assert has_turns(load("tiny")) and not has_turns(load("0.16B"))


def test_unknown_kind_names_the_nearest():
  with pytest.raises(ConfigError, match="'scene'.*did you mean 'scenes'"):
    make_source(SourceConfig("x", "scene", 1.0, {}), 32)


def test_unknown_option_names_the_nearest():
  with pytest.raises(ConfigError, match="max_objcts.*'max_objects'"):
    make_source(SourceConfig("x", "scenes", 1.0, {"max_objcts": 2}), 32)


@pytest.mark.parametrize("kind", ["scenes", "emoji", "corpus"])
def test_held_out_documents_are_others(kind):
  entry = SourceConfig("x", kind, 1.0, {})
  train, held_out = (make_source(entry, 32, held_out=h) for h in (False, True))
  assert train.signature != held_out.signature and KINDS[kind].held_out
