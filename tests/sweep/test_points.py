"""Sweeps as data: their algebra, their mistakes, and names that know only the config."""

import pytest

from tests import small
from unijax.config import ConfigError, from_config_dict, to_dict
from unijax.sweep import points
from unijax.sweep.points import chain, param, product, sample, zipped

A, B = param("a", [1, 2]), param("b", ["x", "y", "z"])


def test_the_algebra():
  assert A == [{"a": 1}, {"a": 2}]
  assert product(A, B)[:4] == [
    {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "z"}, {"a": 2, "b": "x"}
  ]  # fmt: skip
  assert len(product(A, B, param("c", [0]))) == 6
  assert zipped(A, param("b", [3, 4])) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
  assert chain(A, B) == [*A, *B]
  chained = chain(A)
  chained[0]["a"] = 9
  assert A[0]["a"] == 1, "points are copied"


def test_a_sample_is_the_same_everywhere_and_a_part_of_a_larger_one():
  every = product(param("a", list(range(10))), param("b", list(range(10))))
  few, many = sample(every, 5, seed=3), sample(every, 40, seed=3)
  assert [10 * p["a"] + p["b"] for p in few] == [6, 25, 75, 87, 92]  # in Python 3.12
  assert all(point in many for point in few)
  assert len({tuple(p.items()) for p in many}) == 40
  assert many == sorted(many, key=every.index)
  assert sample(every, 100) == every and sample(every, 5, seed=4) != few


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: param("a", []), "param('a'): no values"),
    (lambda: product(A, []), "product: sweep 2 of 2 is empty"),
    (lambda: chain(), "chain: no sweeps"),
    (lambda: product(A, B, A), "product: 'a' is swept twice"),
    (lambda: zipped(A, A), "zipped: 'a' is swept twice"),
    (lambda: zipped(A, B), "sweeps of [2, 3] points"),
    (lambda: sample(A, 3), "3 of 2 points"),
    (lambda: sample([], 1), "sample: sweep 1 of 1 is empty"),
    (lambda: points.check([]), "sweep() gives no points"),
    (lambda: points.check("a"), "must give a list of points"),
    (lambda: points.check(["a"]), "point 1 must be {dotted path: value}"),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ConfigError) as error:
    make()
  assert message in str(error.value)


def test_values_of_a_point_in_a_config():
  values = to_dict(small.config())
  found = points.changed(values, {"model.width": 64, "data.sources.scenes.weight": 2.0})
  assert found["model"]["width"] == 64 and values["model"]["width"] == 32
  assert from_config_dict(found).data.sources[0].weight == 2.0
  shared = {"weight": 0.0}
  found = points.changed({"a": shared, "b": shared}, {"a.weight": 1.0})
  assert found == {"a": {"weight": 1.0}, "b": {"weight": 0.0}}


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("model.widht", "'model.widht' is no knob (did you mean 'model.width'"),
    ("modle.width", "did you mean 'model.width'"),
    ("noise_limit", "did you mean 'data.noise_limit'"),
    ("seed.x", "'seed.x' is no knob"),
    ("zzz", "swept path 'zzz' is no knob"),
  ],
)
def test_an_unknown_path_and_those_like_it(path, message):
  with pytest.raises(ConfigError) as error:
    points.changed(to_dict(small.config()), {path: 1})
  assert message in str(error.value)


def test_a_path_inside_another_one():
  with pytest.raises(ConfigError, match=r"'model.width' and 'model' are swept"):
    points.changed({"model": {"width": 1}}, {"model.width": 2, "model": {}})


def test_a_name_is_of_the_config_alone():
  c = small.scenes()
  values = to_dict(c)

  def turn(x):
    return {k: turn(x[k]) for k in reversed(x)} if isinstance(x, dict) else x

  turned = turn(values)
  options = [list(x["data"]["sources"]["scenes"]["options"]) for x in (values, turned)]
  assert options[0] == options[1][::-1] != options[1]
  assert points.name_of(from_config_dict(turned)) == points.name_of(c)
  names = {
    points.name_of(from_config_dict(points.changed(values, p)))
    for p in ({}, {"seed": 1}, {"sample.steps": 9}, {"model.width": 64})
  }
  assert len(names) == 4 and all(len(name) == points.NAME for name in names)
  told = points.changed(values, {"track.project": "another"})
  assert points.name_of(from_config_dict(told)) == points.name_of(c)
  other = from_config_dict({**values, "seed": 1})
  same = [points.name_of(x, seed=False) for x in (c, other)]
  assert same[0] == same[1] != points.name_of(c)


def test_labels_say_what_differs_and_no_more():
  found = points.labels([
    {"model.width": 64, "vision.width": 8, "optim.learning_rate": 0.01, "seed": 0, "x": 1},
    {"model.width": 64, "vision.width": 9, "optim.learning_rate": 1 / 3, "seed": 1, "x": 1},
    {"model.width": 32, "vision.width": 9, "config": "configs/a.py:tiny", "x": 1},
  ])  # fmt: skip
  assert found == [
    "model.width=64, vision.width=8, learning_rate=0.01",
    f"model.width=64, vision.width=9, learning_rate={1 / 3!r}",
    "model.width=32, vision.width=9, config=a:tiny",
  ]
  sizes = zipped(
    param("m.depth", [1, 2]), param("m.width", [8, 9]), param("m.mlp", [3, 3])
  )
  found = points.labels(product(sizes, param("b", [0, 1]), param("c", [0, 1])))
  assert found[:2] == ["depth=1, b=0, c=0", "depth=1, b=0, c=1"]
  assert points.labels(sizes) == ["depth=1, width=8", "depth=2, width=9"]
  assert points.labels([{"a.b": 1}]) == ["base"]
  assert points.labels([{"a": ("x", "y")}, {"a": ()}]) == ["a=x+y", "a=none"]
