"""The stages of a run, from plain values: what a stage may say, and in which order."""

import typing
from typing import Any

from unijax.config_sections import SECTIONS, STAGE_KNOBS, STAGE_SOURCE, StageConfig
from unijax.config_values import check_names, mapping, typed
from unijax.errors import nearest


def read_stages(values, problems) -> list[StageConfig]:
  """All stages that are described, in any order."""
  stages = []
  for name, entry in values.items():
    path = f"stages.{name}"
    entry = mapping(path, entry, problems)
    optional = {"data": {}, **dict.fromkeys(STAGE_KNOBS, {})}
    check_names(f"{path}.", {**optional, **entry}, {"steps", *optional}, problems)
    if not name.isidentifier():
      problems.append(f"{path}: a stage's name is letters, digits and underscores")
    changes = {
      section: _knobs(path, section, entry[section], problems)
      for section in STAGE_KNOBS
      if section in entry
    }
    if "data" in entry:
      changes["data"] = _stage_data(f"{path}.data", entry["data"], problems)
    if "steps" in entry:
      steps = typed(f"{path}.steps", int, entry["steps"], problems)
      stages.append(StageConfig(name, steps, changes))
  return stages


def _knobs(path, section, values, problems) -> dict[str, Any]:
  """Knobs of a section that a stage changes."""
  hints, free = typing.get_type_hints(SECTIONS[section]), STAGE_KNOBS[section].split()
  result, path = {}, f"{path}.{section}"
  for name, value in mapping(path, values, problems).items():
    if name in free:
      result[name] = typed(f"{path}.{name}", hints[name], value, problems)
    elif name in hints:
      may = ", ".join(free)
      problems.append(f"{path}.{name}: a stage cannot change it, only {may}")
    else:
      problems.append(f"{path}.{name}: unknown knob{nearest(name, free)}")
  return result


def _stage_data(path, values, problems) -> dict[str, Any]:
  """What a stage changes of the sources, by name."""
  values, free = mapping(path, values, problems), STAGE_SOURCE.split()
  check_names(f"{path}.", {"sources": {}, **values}, {"sources"}, problems)
  result = {}
  for name, entry in mapping(path, values.get("sources", {}), problems).items():
    here = f"{path}.sources.{name}"
    entry = mapping(here, entry, problems)
    check_names(f"{here}.", {**dict.fromkeys(free), **entry}, set(free), problems)
    result[name] = {
      key: typed(f"{here}.{key}", float, entry[key], problems)
      for key in free
      if key in entry
    }
  return {"sources": result}


def in_order(stages, order, problems) -> tuple[StageConfig, ...]:
  """The stages that train.stages names, in its order."""
  known = {stage.name: stage for stage in stages}
  for name in order:
    if name not in known:
      hint = nearest(name, known) or f"; stages has {', '.join(known) or 'none'}"
      problems.append(f"train.stages: unknown stage {name!r}{hint}")
  if len(set(order)) < len(order):
    problems.append(f"train.stages: {order} names a stage twice; copy it under another")
  if known and not order:
    problems.append(
      f"train.stages: () names none of the stages {', '.join(known)}: write those to "
      "run, in their order"
    )
  return tuple(known[name] for name in order if name in known)
