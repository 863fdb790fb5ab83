"""From a ConfigDict to frozen, validated dataclasses, once, at the boundary.

`configs/base.py` gives every knob its value and reason, `config_sections` its type,
`config_checks` its range. Below `from_config_dict` nothing reads a ConfigDict or has a
default: missing and unknown knobs, wrong types and clashes are reported together.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from unijax import codecs, config_checks
from unijax.config_sections import (
  SECTIONS,
  AlignConfig,
  CheckpointConfig,
  CodecConfig,
  DataConfig,
  DiffusionConfig,
  EvalConfig,
  GuardConfig,
  MeshConfig,
  ModelConfig,
  OptimConfig,
  SampleConfig,
  SourceConfig,
  TextConfig,
  TrainConfig,
  VisionConfig,
)
from unijax.config_writes import WRITES, Write
from unijax.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Config:
  """One run. Derived sizes are properties, computed after all overrides."""

  seed: int
  model: ModelConfig
  mesh: MeshConfig
  diffusion: DiffusionConfig
  data: DataConfig
  optim: OptimConfig
  train: TrainConfig
  guard: GuardConfig
  checkpoint: CheckpointConfig
  sample: SampleConfig
  eval: EvalConfig
  codec: CodecConfig
  vision: VisionConfig
  text: TextConfig
  align: AlignConfig

  @property
  def write(self) -> Write:
    """Facts of the way images are written."""
    return WRITES[self.model.write]

  @property
  def grid(self) -> int:
    """Patches along one side of an image."""
    stride = codecs.sizes(self.data.codec).stride
    return self.data.image_size // stride // self.data.patch_size

  @property
  def patches(self) -> int:
    """Patches of an image."""
    return self.grid**2

  @property
  def patch_channels(self) -> int:
    """Numbers in one patch; 0 where images are codes."""
    if self.write.discrete:
      return 0
    return self.data.patch_size**2 * codecs.sizes(self.data.codec).channels

  @property
  def codebook(self) -> int:
    """Codes that may stand at an image position; 0 where images are patches."""
    return codecs.sizes(self.data.codec).codebook if self.write.discrete else 0

  @property
  def image_positions(self) -> int:
    """Positions of an image's span: its patches and its time token, if any."""
    return self.patches + (self.model.time_injection == "token")


def from_config_dict(config: Mapping[str, Any]) -> Config:
  """Builds the frozen Config from a (nested) mapping such as a ConfigDict.

  Raises:
    ConfigError: listing every unknown or missing knob, wrong type, value out
      of range and inconsistent pair of sizes.
  """
  problems: list[str] = []
  values = dict(config.items())
  _check_names("", values, {"seed", *SECTIONS}, problems)
  built: dict[str, Any] = {"seed": _typed("seed", int, values.get("seed"), problems)}
  for section, cls in SECTIONS.items():
    if section in values:
      built[section] = _section(section, cls, values[section], problems)
  if problems:
    raise ConfigError(_message(problems))
  result = Config(**built)
  problems = config_checks.problems(result)
  if problems:
    raise ConfigError(_message(problems))
  return result


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the config as nested plain values, the inverse of from_config_dict."""
  result = dataclasses.asdict(config)
  for section in SECTIONS:
    for name, value in result[section].items():
      if isinstance(value, tuple):  # as JSON has it
        result[section][name] = list(value)
  result["data"]["sources"] = {s.name: _source_dict(s) for s in config.data.sources}
  return result


def _source_dict(source: SourceConfig) -> dict[str, Any]:
  """What differs from the defaults of the optional entries, beside the others."""
  result = {"kind": source.kind, "weight": source.weight}
  result["options"] = dict(source.options)
  if source.schedule:
    result["schedule"] = [list(point) for point in source.schedule]
  if source.reference:
    result["reference"] = source.reference
  return result


def difference(old: Mapping[str, Any], new: Mapping[str, Any], path="") -> list[str]:
  """Returns one line for every knob whose value differs between two plain configs."""
  lines = []
  for name in sorted({*old, *new}):
    full = f"{path}{name}"
    a, b = old.get(name, "(absent)"), new.get(name, "(absent)")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      lines += difference(a, b, f"{full}.")
    elif a != b:
      lines.append(f"{full}: {a!r} -> {b!r}")
  return lines


def _message(problems: list[str]) -> str:
  count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the config:"
  return "\n  ".join([count, *problems])


def _check_names(path, values, known, problems):
  for name in values:
    if name not in known:
      hint = nearest(name, known) or f"; known here: {', '.join(sorted(known))}"
      problems.append(f"{path}{name}: unknown knob{hint}")
  for name in sorted(known - set(values)):
    problems.append(f"{path}{name}: missing (configs start from configs/base.py)")


def _section(section, cls, values, problems):
  hints = typing.get_type_hints(cls)
  values = _mapping(section, values, problems)
  _check_names(f"{section}.", values, set(hints), problems)
  result = {}
  for name, hint in hints.items():
    if name not in values:
      continue
    path = f"{section}.{name}"
    if section == "data" and name == "sources":
      result[name] = _sources(values[name], problems)
    else:
      result[name] = _typed(path, hint, values[name], problems)
  return cls(**result) if len(result) == len(hints) else None


def _sources(values, problems) -> tuple[SourceConfig, ...]:
  sources = []
  for name, entry in _mapping("data.sources", values, problems).items():
    path = f"data.sources.{name}."
    entry = _mapping(path[:-1], entry, problems)
    optional = {"schedule": (), "reference": 0.0}
    known = {"kind", "weight", "options", *optional}
    _check_names(path, {**optional, **entry}, known, problems)
    if {"kind", "weight", "options"} <= set(entry):
      weight = _typed(f"{path}weight", float, entry["weight"], problems)
      kind = _typed(f"{path}kind", str, entry["kind"], problems)
      options = {
        k: v.to_dict() if hasattr(v, "to_dict") else v
        for k, v in _mapping(f"{path}options", entry["options"], problems).items()
      }
      schedule = _schedule(f"{path}schedule", entry.get("schedule", ()), problems)
      reference = _typed(
        f"{path}reference", float, entry.get("reference", 0.0), problems
      )
      sources.append(SourceConfig(name, kind, weight, options, schedule, reference))
  return tuple(sources)


def _schedule(path, points, problems) -> tuple[tuple[int, float], ...]:
  try:
    return tuple(
      (_typed(path, int, step, problems), _typed(path, float, weight, problems))
      for step, weight in points
    )
  except (TypeError, ValueError):
    problems.append(f"{path}: expected [[step, weight], ...], got {points!r}")
    return ()


def _mapping(path, value, problems) -> dict[str, Any]:
  if hasattr(value, "items"):
    return dict(value.items())
  problems.append(f"{path}: expected named values, got {value!r}")
  return {}


def _typed(path, hint, value, problems):
  if typing.get_origin(hint) is Literal:
    choices = typing.get_args(hint)
    if value not in choices:
      hint_text = nearest(str(value), choices)
      problems.append(
        f"{path}: {value!r} is not one of {', '.join(choices)}{hint_text}"
      )
    return value
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if hint is float and isinstance(value, float) and not math.isfinite(value):
    problems.append(f"{path}: {value} is not a finite number")
    return value
  numbers = hint == tuple[int, ...]
  if numbers and isinstance(value, list | tuple) and all(type(x) is int for x in value):
    return tuple(value)
  if numbers or type(value) is not hint:
    wanted = "a list of whole numbers" if numbers else hint.__name__
    problems.append(f"{path}: expected {wanted}, got {type(value).__name__} {value!r}")
  return value
