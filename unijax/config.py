"""From a ConfigDict to frozen, validated dataclasses, once, at the boundary.

`configs/base.py` gives every knob its value and reason, `config_sections` its type,
`config_checks` its range. Below `from_config_dict` nothing reads a ConfigDict or has a
default: missing and unknown knobs, wrong types and clashes are reported together.
"""

import bisect
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from unijax import codecs, config_checks
from unijax.config_parts import (
  AlignConfig,
  BridgeConfig,
  CodecConfig,
  DenoiserConfig,
  DitConfig,
  TextConfig,
  VisionConfig,
)
from unijax.config_reads import FACTORS, LENGTHS, READS, Read
from unijax.config_sections import (
  SECTIONS,
  CheckpointConfig,
  DataConfig,
  DiffusionConfig,
  EvalConfig,
  GuardConfig,
  LoraConfig,
  MeshConfig,
  ModelConfig,
  OptimConfig,
  SampleConfig,
  SourceConfig,
  StageConfig,
  TrackConfig,
  TrainConfig,
)
from unijax.config_sources import read_sources
from unijax.config_stages import in_order, read_stages
from unijax.config_values import check_names, mapping, typed
from unijax.config_writes import IMAGE_PLACES, WRITES, Write
from unijax.errors import ConfigError

DRAWERS = {"drawing": "dit", "decoder": "codec/decoder"}  # where a task has its dit


@dataclasses.dataclass(frozen=True)
class Config:
  """One run. Derived sizes are properties, computed after all overrides."""

  seed: int
  model: ModelConfig
  dit: DitConfig
  bridge: BridgeConfig
  denoiser: DenoiserConfig
  mesh: MeshConfig
  diffusion: DiffusionConfig
  data: DataConfig
  optim: OptimConfig
  lora: LoraConfig
  train: TrainConfig
  guard: GuardConfig
  track: TrackConfig
  checkpoint: CheckpointConfig
  sample: SampleConfig
  eval: EvalConfig
  codec: CodecConfig
  vision: VisionConfig
  text: TextConfig
  align: AlignConfig
  stages: tuple[StageConfig, ...]  # those that train.stages names, in its order

  @property
  def write(self) -> Write:
    """Facts of the way images are written."""
    return WRITES[self.model.write]

  @property
  def read(self) -> Read:
    """Facts of the way context images are read."""
    return READS[self.model.read]

  @property
  def starts(self) -> tuple[int, ...]:
    """First step of every stage; (0,) for a run without stages."""
    steps = [0]
    for stage in self.stages[:-1]:
      steps.append(steps[-1] + stage.steps)
    return tuple(steps)

  def stage_of(self, step: int) -> int:
    """Number of the stage of a step, from 0; steps after the end are of the last."""
    return bisect.bisect_right(self.starts, step) - 1

  def at(self, number: int) -> "Config":
    """Returns the config of one stage by itself, with its steps and no stages.

    A run without stages has one, which is the config itself.
    """
    if not self.stages:
      return self
    stage, changed = self.stages[number], {}
    for section, knobs in stage.changes.items():
      if section != "data":
        changed[section] = dataclasses.replace(getattr(self, section), **knobs)
    entries = stage.changes.get("data", {}).get("sources", {})
    sources = tuple(
      dataclasses.replace(s, **entries.get(s.name, {})) for s in self.data.sources
    )
    changed["data"] = dataclasses.replace(self.data, sources=sources)
    changed["train"] = dataclasses.replace(
      changed.get("train", self.train), steps=stage.steps, stages=()
    )
    return dataclasses.replace(self, **changed, stages=())

  @property
  def grid(self) -> int:
    """Patches along one side of an image."""
    stride = codecs.sizes(self.data.codec).stride
    return self.data.image_size // stride // self.data.patch_size

  @property
  def patches(self) -> int:
    """Patches of an image that is written; 0 where none is."""
    return 0 if self.write.never else self.grid**2

  @property
  def patch_channels(self) -> int:
    """Numbers in one patch; 0 where images are codes, or never written."""
    if self.write.discrete or self.write.never:
      return 0
    return self.data.patch_size**2 * codecs.sizes(self.data.codec).channels

  @property
  def codebook(self) -> int:
    """Codes that may stand at an image position; 0 where images are patches."""
    return codecs.sizes(self.data.codec).codebook if self.write.discrete else 0

  @property
  def draws(self) -> bool:
    """Whether images are written that can be made pictures."""
    return not self.write.never and codecs.sizes(self.data.codec).draws

  @property
  def slots(self) -> int:
    """Tokens between BOI and an image that a decoder draws from; 0 without one."""
    return self.bridge.slots if self.write.slots else 0

  @property
  def text_block(self) -> int:
    """Positions of text that are written at once; 0 where it is token by token."""
    return self.model.text_block if self.write.blocks else 0

  @property
  def image_positions(self) -> int:
    """Positions of an image after BOI: slots and time token, if any, and patches, with
    the tokens that stand among them."""
    before = self.slots + (self.model.time_injection == "token")
    if self.write.never:
      return before
    ids = [len(self.image_tokens(place)) for place in IMAGE_PLACES]
    return before + self.patches + ids[0] + self.grid * ids[1] + ids[2]

  def image_tokens(self, place: str) -> tuple[int, ...]:
    """Ids that stand at one of `IMAGE_PLACES` in every image that is written."""
    return tuple(token for name, token in self.data.image_tokens if name == place)

  @property
  def owns_boi(self) -> bool:
    """Whether the BOI of an image that is written belongs to it: it is read again with
    the image in every step of drawing."""
    return self.framed or self.model.time_injection == "boi"

  @property
  def framed(self) -> bool:
    """Whether what frames an image belongs to its span."""
    return self.model.image_mask == "framed"

  @property
  def frame(self) -> int:
    """Positions around an image that may belong to its span, at most; 0 if none do.

    A token stands for at least one byte, save one for a space that a tokenizer adds.
    """
    before = dict(self.data.chat).get("image_begin", "").encode()
    return self.framed * (2 + len(before) + bool(before))

  @property
  def seen_size(self) -> int:
    """Pixels a side of pictures as an encoder reads them."""
    return self.vision.image_size or self.data.image_size

  @property
  def fixed(self) -> tuple[str, ...]:
    """Parameters that are part of the weights and never trained."""
    tables = "patch_position", "feature_position"
    unified = self.train.task == "unified"
    found = [x for x in tables if unified and getattr(self.model, x) == "fixed"]
    drawer = "bridge/decoder" if self.slots else DRAWERS.get(self.train.task)
    if drawer and self.dit.positions == "table":
      found.append(f"{drawer}/positions")
    return tuple(found)

  @property
  def features(self) -> int:
    """Vectors that are read of an encoded picture, at most where pictures keep their
    shape; 0 without an encoder."""
    m, read = self.model, self.read
    if not read.encodes:
      return 0
    connector = m.connector if read.features else "linear"  # fused: one a patch
    return LENGTHS[connector](self.encoded, m.connector_queries)

  @property
  def native(self) -> bool:
    """Whether pictures that an encoder reads keep their own shape."""
    return self.data.fit == "native" and self.read.features

  @property
  def unit(self) -> int:
    """Patches a side of what a connector makes one position of."""
    return FACTORS.get(self.model.connector, 1) if self.read.features else 1

  @property
  def unit_pixels(self) -> int:
    """Pixels a side of what one position is made of."""
    return self.vision.patch_size * self.unit

  @property
  def encoded(self) -> int:
    """Patches of an encoded picture, at most where pictures keep their shape."""
    if not self.native:
      return (self.seen_size // self.vision.patch_size) ** 2
    return self.data.native_pixels[1] // self.unit_pixels**2 * self.unit**2

  @property
  def picture_shape(self) -> tuple[int, int, int]:
    """Shape of a picture that an encoder reads: its sides, or patches and their pixels;
    colours."""
    if not self.native:
      return self.seen_size, self.seen_size, 3
    return self.encoded, self.vision.patch_size**2, 3

  @property
  def pictures(self) -> int:
    """Largest number of pictures of a row that an encoder reads; 0 without one.

    An image that is read both ways counts twice in `data.images_per_row`.
    """
    twice = self.read.written and self.read.features
    return self.data.images_per_row // (1 + twice) if self.read.pictures else 0


def from_config_dict(config: Mapping[str, Any]) -> Config:
  """Builds the frozen Config from a (nested) mapping such as a ConfigDict.

  Raises:
    ConfigError: listing every unknown or missing knob, wrong type, value out
      of range and inconsistent pair of sizes.
  """
  problems: list[str] = []
  values = dict(config.items())
  check_names("", values, {"seed", "stages", *SECTIONS}, problems)
  built: dict[str, Any] = {"seed": typed("seed", int, values.get("seed"), problems)}
  for section, cls in SECTIONS.items():
    if section in values:
      built[section] = _section(section, cls, values[section], problems)
  stages = read_stages(mapping("stages", values.get("stages", {}), problems), problems)
  if problems:
    raise ConfigError(_message(problems))
  built["stages"] = in_order(stages, built["train"].stages, problems)
  if problems:
    raise ConfigError(_message(problems))
  if built["stages"] and built["train"].steps == 0:  # left to the stages
    total = sum(stage.steps for stage in built["stages"])
    built["train"] = dataclasses.replace(built["train"], steps=total)
  result = Config(**built)
  problems = config_checks.problems(result)
  if problems:
    raise ConfigError(_message(problems))
  return result


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the config as nested plain values, the inverse of from_config_dict."""
  result = dataclasses.asdict(config)
  result["data"]["sources"] = {s.name: _source_dict(s) for s in config.data.sources}
  for section in SECTIONS:
    if section != "data":
      result[section] = _plain(result[section])
  result["stages"] = {
    s.name: {"steps": s.steps, **_plain(s.changes)} for s in config.stages
  }
  return result


def _plain(value):
  """Mappings and lists, as JSON has them."""
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _source_dict(source: SourceConfig) -> dict[str, Any]:
  """What differs from the defaults of the optional entries, beside the others."""
  result = {"kind": source.kind, "weight": source.weight}
  result["options"] = dict(source.options)
  if source.schedule:
    result["schedule"] = [list(point) for point in source.schedule]
  for name in ("reference", "text_loss", "image_loss"):
    value = getattr(source, name)
    if value != getattr(SourceConfig, name):
      result[name] = value
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


def _section(section, cls, values, problems):
  hints = typing.get_type_hints(cls)
  values = mapping(section, values, problems)
  check_names(f"{section}.", values, set(hints), problems)
  result = {}
  for name, hint in hints.items():
    if name not in values:
      continue
    path = f"{section}.{name}"
    if section == "data" and name == "sources":
      result[name] = read_sources(values[name], problems)
    else:
      result[name] = typed(path, hint, values[name], problems)
  return cls(**result) if len(result) == len(hints) else None
