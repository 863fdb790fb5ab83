"""Sweeps as data: a list of points, each {dotted path: value}, and their algebra.

  product(param("model.width", [64, 128]), param("seed", [0, 1, 2]))

A path is one of the config's. Two more are read: "config" names another file
(FILE[:preset]) that the point starts from instead of the study's own `get_config`, and
"flops" is what its training may cost. Everything here returns plain lists of dicts, so
that a study may also write its points by hand.
"""

import copy
import difflib
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from unijax.config import Config, ConfigError, to_dict

Point = dict[str, Any]
CONFIG, FLOPS, SEED = "config", "flops", "seed"
NAME = 12  # hexadecimal digits of a name
MANY = 3  # swept paths that a label has room for


def param(path: str, values: Sequence[Any]) -> list[Point]:
  """One point for each value of a path.

  Raises:
    ConfigError: there are no values.
  """
  if not values:
    raise ConfigError(f"param({path!r}): no values; give at least one")
  return [{path: value} for value in values]


def product(*sweeps: Sequence[Point]) -> list[Point]:
  """Every point of each sweep with every point of the others; the last runs fastest.

  Raises:
    ConfigError: an empty sweep; the same path in two of them.
  """
  points: list[Point] = [{}]
  for sweep in _not_empty("product", sweeps):
    points = [_joined("product", a, b) for a in points for b in sweep]
  return points


def zipped(*sweeps: Sequence[Point]) -> list[Point]:
  """The first point of each sweep joined, then the second of each, and so on.

  Raises:
    ConfigError: an empty sweep; sweeps of different lengths; a path in two of them.
  """
  lengths = [len(sweep) for sweep in _not_empty("zipped", sweeps)]
  if len(set(lengths)) > 1:
    raise ConfigError(f"zipped: sweeps of {lengths} points; give equally many in each")
  points: list[Point] = [{} for _ in sweeps[0]]
  for sweep in sweeps:
    points = [_joined("zipped", a, b) for a, b in zip(points, sweep, strict=True)]
  return points


def chain(*sweeps: Sequence[Point]) -> list[Point]:
  """The points of one sweep after those of another.

  Raises:
    ConfigError: an empty sweep.
  """
  return [dict(p) for sweep in _not_empty("chain", sweeps) for p in sweep]


def sample(sweep: Sequence[Point], count: int, seed: int = 0) -> list[Point]:
  """Some points of a sweep, each at most once, in the sweep's order.

  The same seed takes the same points on every machine and version of Python; of a
  larger count they are a part.

  Raises:
    ConfigError: an empty sweep, or not `count` points in it.
  """
  _not_empty("sample", [sweep])
  if not 0 < count <= len(sweep):
    raise ConfigError(f"sample: {count} of {len(sweep)} points; give 1 to {len(sweep)}")
  draws = random.Random(seed)  # `random()` is promised to stay as it is
  keys = [(draws.random(), i) for i in range(len(sweep))]
  return [dict(sweep[i]) for i in sorted(i for _, i in sorted(keys)[:count])]


def _not_empty(what: str, sweeps: Sequence[Sequence[Point]]):
  if not sweeps:
    raise ConfigError(f"{what}: no sweeps, hence no points; give it at least one")
  for number, sweep in enumerate(sweeps, 1):
    if not sweep:
      raise ConfigError(f"{what}: sweep {number} of {len(sweeps)} is empty")
  return sweeps


def _joined(what: str, one: Point, other: Point) -> Point:
  twice = sorted(set(one) & set(other))
  if twice:
    raise ConfigError(
      f"{what}: {twice[0]!r} is swept twice, and a point has one value of it"
    )
  return {**one, **other}


def check(points: Any) -> list[Point]:
  """Returns what a study's `sweep()` gave, if it is a sweep.

  Raises:
    ConfigError: no list of {dotted path: value}, or an empty one.
  """
  if isinstance(points, list | tuple) and not points:
    raise ConfigError(
      "sweep() gives no points: have it return one or more, such as "
      "param('model.width', [64, 128])"
    )
  if not isinstance(points, list | tuple):
    raise ConfigError(f"sweep() must give a list of points, not {points!r:.80}")
  for number, point in enumerate(points, 1):
    if not isinstance(point, Mapping) or not all(isinstance(p, str) for p in point):
      raise ConfigError(
        f"sweep(): point {number} must be {{dotted path: value}}, not {point!r:.80}"
      )
  return [dict(point) for point in points]


def changed(values: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a nested config with the values of a point in it.

  Args:
    values: as `ConfigDict.to_dict` gives it.
    point: {dotted path: value}.

  Raises:
    ConfigError: a path that the config has not, with those like it; a path inside
      another one that is changed too.
  """
  result = _copied(values)
  for path, value in sorted(point.items()):  # "a" before "a.b"
    inside = [other for other in point if path.startswith(f"{other}.")]
    if inside:
      raise ConfigError(
        f"{path!r} and {inside[0]!r} are swept, and one holds the other"
      )
    *parents, last = path.split(".")
    node = result
    for name in parents:
      node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
      raise ConfigError(f"swept path {path!r} is no knob{_like(path, values)}")
    node[last] = copy.deepcopy(value)
  return result


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
  """A copy in which no two parts are one, as they may be in a ConfigDict."""
  return {
    name: _copied(value) if isinstance(value, Mapping) else copy.deepcopy(value)
    for name, value in values.items()
  }


def _like(path: str, values: Mapping[str, Any]) -> str:
  """' (did you mean ...?)' with up to three paths, of knobs and of their sections."""
  known = list(_paths("", values))
  close = difflib.get_close_matches(path, known, n=3, cutoff=0.6)
  # Else a knob of this very name elsewhere.
  name = path.rpartition(".")[2]
  close = close or [x for x in known if x.rpartition(".")[2] == name][:3]
  return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _paths(before: str, values: Mapping[str, Any]):
  for name, value in values.items():
    yield f"{before}{name}"
    if isinstance(value, Mapping):
      yield from _paths(f"{before}{name}.", value)


def name_of(config: Config, *, seed: bool = True) -> str:
  """A short hash of all knobs of a run; of all but its seed, where that is not wanted.

  It knows nothing of files, labels or the order of points, nor of who is told of a run.
  """
  values = to_dict(config)
  del values["track"]
  if not seed:
    del values[SEED]
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:NAME]


def labels(points: Sequence[Point]) -> list[str]:
  """What is particular of each point, in a few words; seeds are left out.

  A path is called by its last name, or by as many as tell it from the others. Of more
  than MANY, those are left out that follow from one before, as a width from a depth.
  """
  paths = [p for p in dict.fromkeys(p for x in points for p in x) if p != SEED]
  differ = [
    path
    for path in paths
    if len({json.dumps(x.get(path), default=str) for x in points}) > 1
    or any(path not in x for x in points)
  ]
  if len(differ) > MANY:
    differ = [p for i, p in enumerate(differ) if not _follows(p, differ[:i], points)]
  short = {path: _short(path, differ) for path in differ}
  return [
    ", ".join(f"{short[p]}={_shown(x[p])}" for p in differ if p in x) or "base"
    for x in points
  ]


def _follows(path: str, before: Sequence[str], points: Sequence[Point]) -> bool:
  """Whether the values of a path are told by those of another one."""
  value = lambda point, p: json.dumps(point[p], default=str)  # noqa: E731
  for other in before:
    if all(path in x and other in x for x in points):
      pairs = {(value(x, other), value(x, path)) for x in points}
      if len(pairs) == len({first for first, _ in pairs}):
        return True
  return False


def _short(path: str, others: Sequence[str]) -> str:
  names = path.split(".")
  for count in range(1, len(names)):
    end = ".".join(names[-count:])
    if sum(other == end or other.endswith(f".{end}") for other in others) == 1:
      return end
  return path


def _shown(value: Any) -> str:
  """A value as a person writes it; of a config file its name and preset."""
  if isinstance(value, str):
    return value.removeprefix("configs/").replace(".py", "")
  if isinstance(value, float):
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
  if isinstance(value, list | tuple):
    return "+".join(map(_shown, value)) or "none"
  if isinstance(value, Mapping):
    return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) + "}"
  return repr(value)
