"""A study file, and the trials that it asks for.

A study is a config file with a sweep beside the config that it varies:

  get_config(preset)   as of every config file
  sweep(preset)        a list of points (`unijax.sweep.points`)
  BASELINE             what of a point is replaced to find the point it is compared with
  SCORES               names of the scores that answer the question; not given: all
  CURVES               a path, each value of which is a curve of score against compute
"""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unijax import config_file
from unijax.config import Config, ConfigError, from_config_dict, to_dict
from unijax.sweep import points as points_lib
from unijax.sweep.points import CONFIG, FLOPS, SEED, Point
from unijax.sweep.trials import Trial

# (config, FLOPs to spend) -> ({steps, flops_per_step, flops}; knobs that follow).
Budget = Callable[[Config, float], tuple[dict, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Study:
  """What a study file says.

  Attributes:
    file: its path.
    preset: "" is the file's own choice.
    about: its docstring.
    points: of its sweep, as written.
    baseline: values that make a point the one it is compared with; None for no such.
    scores: names of those to show; () for all.
    curves: path whose values are curves; "" for none.
  """

  file: str
  preset: str
  about: str
  points: tuple[Point, ...]
  baseline: Point | None
  scores: tuple[str, ...]
  curves: str


def load(study: str) -> Study:
  """Reads FILE[:preset].

  Raises:
    ConfigError: no such file, one without a sweep, an empty sweep, or a BASELINE that
      is none of its points.
  """
  file, _, preset = study.partition(":")
  path = pathlib.Path(file)
  if not path.is_file():
    raise ConfigError(
      f"no study {file!r}: see configs/studies/ for those that come here"
    )
  spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
  if spec is None:
    raise ConfigError(f"{file}: a study is a Python file, NAME.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "sweep"):
    raise ConfigError(f"{file}: no sweep(preset) in it; `unijax train` runs one config")
  try:
    swept = module.sweep(preset) if preset else module.sweep()
  except ValueError as error:
    raise ConfigError(f"{file}: {error}") from error
  found = Study(
    file, preset, (module.__doc__ or "").strip(), tuple(points_lib.check(swept)),
    getattr(module, "BASELINE", None), tuple(getattr(module, "SCORES", ())),
    getattr(module, "CURVES", ""),
  )  # fmt: skip
  baselines(found.points, found.baseline)
  return found


def baselines(
  points: Sequence[Point], baseline: Point | None, groups: Sequence[str] = ()
) -> list[int | None]:
  """Number of the point that each point is compared with.

  Of the points that have all of `baseline`, it is the only one; else the one that
  agrees with the point in every other path.

  Args:
    points: of a sweep.
    baseline: {dotted path: value}; None: nothing is compared.
    groups: hashes of their configs, by which points may turn out to be one; not given,
      what is swept besides and seeds tells them apart.

  Raises:
    ConfigError: no point has all of it.
  """
  if baseline is None:
    return [None] * len(points)
  rest = lambda p: {k: v for k, v in p.items() if k not in baseline and k != SEED}  # noqa: E731
  has = [
    i
    for i, point in enumerate(points)
    if all(k in point and point[k] == v for k, v in baseline.items())
  ]
  if not has:
    raise ConfigError(f"BASELINE {baseline}: no point of the sweep has these values")
  same = groups or [json.dumps(rest(point), default=str) for point in points]
  if len({same[i] for i in has}) == 1:
    return [has[0]] * len(points)
  alike = lambda p: next((i for i in has if rest(points[i]) == rest(p)), None)  # noqa: E731
  return [alike(point) for point in points]


def resolve(study: Study, point: Mapping[str, Any], overrides=()) -> Config:
  """The frozen config of a point, without what its FLOPs decide.

  Args:
    study: that it is of.
    point: {dotted path: value}; "config" without a preset takes the study's.
    overrides: `--config.a.b=value` for all points; a point's own values win.

  Raises:
    ConfigError: an unknown path, or whatever `from_config_dict` finds.
  """
  own = {path: value for path, value in point.items() if path not in (CONFIG, FLOPS)}
  file = str(point.get(CONFIG, study.file))
  if ":" not in file and study.preset:
    file = f"{file}:{study.preset}"
  read = config_file.read([f"--config={file}", *overrides]).to_dict()
  return from_config_dict(points_lib.changed(read, own))


def plan(
  study: Study, *, flops: float | None = None, seeds: int = 1, prompts: int = 100,
  key: str = "", overrides: Sequence[str] = (), budget: Budget | None = None,
) -> list[Trial]:  # fmt: skip
  """The trials of a study, each of a valid config; points of equal configs are one.

  Args:
    study: what to vary.
    flops: of the training of every point, in place of its steps.
    seeds: how many of each point: the config's own and those that follow it.
    prompts: that a trial is scored on, of each task and split.
    key: of how they are scored; scores of another key are made again.
    overrides: `--config.a.b=value` for all points.
    budget: counts the steps that FLOPs buy; may be None where none are to be spent.

  Raises:
    ConfigError: of any point, which is named; FLOPs or seeds that are said twice.
  """
  swept = study.points
  _check_twice(swept, flops, seeds, prompts)
  labels = points_lib.labels(swept)
  configs = [_named(i, study, overrides, labels) for i in range(len(swept))]
  spends = [point.get(FLOPS, flops) for point in swept]
  costs = [_cost(*x, budget) for x in zip(configs, spends, strict=True)]
  configs = [config for config, _ in costs]
  groups = [points_lib.name_of(config, seed=False) for config in configs]
  against = baselines(swept, study.baseline, groups)
  found: dict[str, Trial] = {}
  for i, (config, counted) in enumerate(costs):
    for more in range(seeds):
      one = dataclasses.replace(config, seed=config.seed + more)
      name, base = points_lib.name_of(one), against[i]
      trial = Trial(
        name=name, number=i, label=labels[i], group=groups[i], seed=one.seed,
        point={k: v for k, v in swept[i].items() if k != SEED},
        baseline="" if base is None else groups[base], budget=spends[i],
        counted=counted, prompts=prompts, key=key, config=to_dict(one),
      )  # fmt: skip
      found.setdefault(name, trial)
  return list(found.values())


def _named(i: int, study: Study, overrides, labels: Sequence[str]) -> Config:
  """The config of point i; what is wrong with it is said of that point."""
  try:
    return resolve(study, study.points[i], overrides)
  except ConfigError as error:
    raise ConfigError(f"point {i + 1} ({labels[i]}): {error}") from error


def _cost(config: Config, spend: float | None, budget: Budget | None):
  """(config that spends its FLOPs, what was counted of them: {} where nobody asks)."""
  if spend is None:
    return config, {}
  if budget is None:
    raise ConfigError("FLOPs are to be spent, and nothing counts them")
  counted, knobs = budget(config, spend)
  return from_config_dict(points_lib.changed(to_dict(config), knobs)), counted


def _check_twice(swept: Sequence[Point], flops, seeds: int, prompts: int) -> None:
  """Raises ConfigError for what the study and the command line both say, or nobody."""
  if flops is not None and flops <= 0:
    raise ConfigError(f"--flops={flops:g}: give more than 0")
  if seeds < 1 or prompts < 1:
    raise ConfigError(f"--seeds={seeds}, --eval-prompts={prompts}: give 1 or more")
  if flops is not None and any(FLOPS in point for point in swept):
    raise ConfigError(f"--flops={flops:g}: the points of this study say their FLOPs")
  if seeds > 1 and any(SEED in point for point in swept):
    raise ConfigError(f"--seeds={seeds}: the points of this study say their seeds")
