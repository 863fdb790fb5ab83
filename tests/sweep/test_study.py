"""From a study file to trials: each of a valid config, with one name for one run."""

import dataclasses
import json
import pathlib

import pytest

from unijax.config import ConfigError, from_config_dict
from unijax.sweep import points, study

STUDY = '''
"""A question.

What is held equal.
"""

from configs import clip
from unijax.sweep.points import param, product

BASELINE = {"align.width": 32}
SCORES = ("image to text",)


def get_config(preset="tiny"):
  c = clip.get_config(preset)
  c.seed = 5
  return c


def sweep(preset="tiny"):
  return product(param("align.width", [32, 64]), param("train.batch_size", [4, 8]))
'''


@pytest.fixture
def make(tmp_path):
  """Writes a study, STUDY with replacements, and reads it."""

  def made(*replaced: tuple[str, str], name="study.py", preset=":tiny"):
    text = STUDY
    for old, new in replaced:
      assert old in text
      text = text.replace(old, new)
    (tmp_path / name).write_text(text)
    return study.load(f"{tmp_path / name}{preset}")

  return made


def test_what_a_study_says(make):
  found = make()
  assert found.about.startswith("A question.") and found.preset == "tiny"
  assert found.points[1] == {"align.width": 32, "train.batch_size": 8}
  assert found.baseline == {"align.width": 32} and found.scores == ("image to text",)
  assert make(preset="").points == found.points


def test_trials_of_points_and_seeds(make):
  found = study.plan(make(), seeds=3, prompts=7, key="k")
  assert [(t.number, t.seed) for t in found] == [
    (i, 5 + s) for i in range(4) for s in range(3)
  ]
  assert found[3].label == "width=32, batch_size=8"
  assert len({t.name for t in found}) == 12 and len({t.group for t in found}) == 4
  for t in found:
    config = from_config_dict(json.loads(json.dumps(dataclasses.asdict(t)))["config"])
    assert config.align.width == t.point["align.width"] and config.seed == t.seed
    assert points.name_of(config) == t.name
    assert points.name_of(config, seed=False) == t.group
  groups = {t.label: t.group for t in found}
  for t in found:  # of the same batch size
    width, size = t.label.split(", ")
    assert t.baseline == groups[f"width=32, {size}"]
  assert {(t.prompts, t.key, t.budget) for t in found} == {(7, "k", None)}


def test_names_know_nothing_of_files_and_order(make):
  one = study.plan(make(), seeds=2)
  turned = (
    "return product(param('train.batch_size', [8, 4]), param('align.width', [64, 32]))"
  )
  old = (
    'return product(param("align.width", [32, 64]), param("train.batch_size", [4, 8]))'
  )
  other = study.plan(make((old, turned), name="renamed.py"), seeds=3)
  assert {t.name for t in one} < {t.name for t in other}


def test_points_of_equal_configs_are_one_trial(make):
  old = (
    'return product(param("align.width", [32, 64]), param("train.batch_size", [4, 8]))'
  )
  new = 'return [{"align.width": 32}, {"train.batch_size": 4}, {"align.width": 32, "train.batch_size": 64}]'
  found = study.plan(make((old, new)), seeds=2)
  assert [(t.number, t.seed) for t in found] == [(0, 5), (0, 6), (1, 5), (1, 6)]
  assert {t.baseline for t in found} == {found[0].group}


def test_a_point_may_name_another_file(make, tmp_path):
  old = (
    'return product(param("align.width", [32, 64]), param("train.batch_size", [4, 8]))'
  )
  new = 'return product(param("config", ["configs/clip.py", "configs/siglip.py:tiny"]), param("align.width", [96]))'
  base = '{"config": "configs/clip.py"}'
  found = study.plan(
    make((old, new), ('{"align.width": 32}', base)), overrides=["--config.seed=9"]
  )
  assert [t.config["align"]["objective"] for t in found] == ["softmax", "sigmoid"]
  assert [t.label for t in found] == ["config=clip", "config=siglip:tiny"]
  assert [t.baseline for t in found] == [found[0].group] * 2
  assert {t.seed for t in found} == {9}


def test_flops_in_place_of_steps(make):
  """Counted once for all seeds of a point; what they buy is in its config."""
  asked = []

  def budget(config, flops):
    asked.append((config.train.batch_size, flops))
    steps = int(flops / config.train.batch_size)
    return {"steps": steps, "flops": flops}, {"train.steps": steps}

  found = study.plan(make(), flops=240.0, seeds=3, budget=budget)
  assert asked == [(4, 240.0), (8, 240.0)] * 2
  assert [t.config["train"]["steps"] for t in found] == ([60] * 3 + [30] * 3) * 2
  assert found[0].budget == 240.0 and found[0].counted == {"steps": 60, "flops": 240.0}
  assert found[0].name != study.plan(make())[0].name
  old = 'param("train.batch_size", [4, 8])'
  own = study.plan(make((old, 'param("flops", [64.0, 128.0])')), budget=budget)
  assert [t.config["train"]["steps"] for t in own] == [1, 2, 1, 2]
  assert own[1].label == "width=32, flops=128"


@pytest.mark.parametrize(
  ("replaced", "options", "message"),
  [
    ([("align.width", "align.widht")], {}, "point 1 (widht=32, batch_size=4): swept path "
     "'align.widht' is no knob (did you mean 'align.width'"),
    ([("[4, 8]", "[4, -8]")], {}, "point 2 (width=32, batch_size=-8): 1 problem in the config"),
    ([("[4, 8]", "[]")], {}, "no values"),
    ([("def sweep", "def sweeps")], {}, "no sweep(preset) in it"),
    ([('{"align.width": 32}', '{"align.width": 33}')], {}, "no point of the sweep has these"),
    ([("[4, 8]", "[4]), param('flops', [1.0]")], {"flops": 2.0}, "points of this study say their FLOPs"),
    ([("[4, 8]", "[4]), param('seed', [1, 2]")], {"seeds": 2}, "points of this study say their seeds"),
    ([], {"flops": -1.0}, "--flops=-1: give more than 0"),
    ([], {"seeds": 0}, "--seeds=0"),
    ([], {"overrides": ["--config.align.widht=3"]}, "unknown knob"),
  ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_starts(make, replaced, options, message):
  with pytest.raises(ConfigError) as error:
    study.plan(make(*replaced), **options)
  assert message in str(error.value)


def test_no_such_study_and_preset(tmp_path):
  with pytest.raises(ConfigError, match="no study 'nosuch.py'"):
    study.load("nosuch.py:tiny")
  with pytest.raises(ConfigError, match="unknown preset 'huge'; known: tiny"):
    wanted = study.load("configs/studies/mask.py:huge")
    study.plan(wanted)


def test_seeds_may_be_swept(make):
  found = study.plan(
    make(('param("train.batch_size", [4, 8])', 'param("seed", [3, 8])'))
  )
  assert [(t.label, t.seed) for t in found] == [
    ("width=32", 3), ("width=32", 8), ("width=64", 3), ("width=64", 8)
  ]  # fmt: skip
  assert len({t.group for t in found}) == 2
  assert {t.baseline for t in found} == {found[0].group}


def test_which_point_a_point_is_compared_with():
  grid = points.product(points.param("a", [1, 2]), points.param("b", [1, 2]))
  assert study.baselines(grid, None) == [None] * 4
  assert study.baselines(grid, {"a": 2}) == [2, 3, 2, 3]
  assert study.baselines(grid, {"a": 1, "b": 2}) == [1] * 4
  apart = [{"a": 1}, {"a": 2, "b": 7}, {"a": 1, "b": 8}]
  assert study.baselines(apart, {"a": 1}) == [0, None, 2]


def test_every_study_says_what_it_is_about():
  for path in sorted(pathlib.Path("configs/studies").glob("[!_]*.py")):
    lines = path.read_text().splitlines()
    assert len(lines) <= 60, path
    if path.stem != "common":
      about = study.load(str(path)).about
      assert about.splitlines()[0].endswith("?"), path
      for part in ("Held equal:", "An answer:", "unijax sweep run"):
        assert part in about, (path, part)
