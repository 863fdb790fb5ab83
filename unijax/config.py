"""From a ConfigDict to frozen, validated dataclasses, once, at the boundary.

`configs/base.py` gives every knob its value and reason; the classes below give
it a type and a range. Below `from_config_dict` nothing reads a ConfigDict, and
nothing has a default: a missing knob, an unknown one, a wrong type and every
inconsistent pair of sizes are reported together.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, Literal

from unijax.codecs import CODECS


class ConfigError(ValueError):
  """The config is wrong. The message lists every problem found, one a line."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  depth: int
  width: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  positions: Literal["sequential", "shared", "grid"]
  rope_theta: float
  qk_norm: bool
  norm_eps: float
  tie_embeddings: bool
  patch_codec: Literal["linear", "unet"]
  unet_width: int
  unet_blocks: int
  patch_position: Literal["none", "learned"]
  time_injection: Literal["add", "token", "adaln"]
  image_mask: Literal["bidirectional", "causal"]
  dtype: Literal["float32", "bfloat16"]
  remat: Literal["none", "full", "dots"]
  scan_unroll: int


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
  path: Literal["cosine", "linear", "rectified_flow"]
  predict: Literal["x0", "epsilon", "v", "velocity"]
  loss_target: Literal["same", "x0", "epsilon", "v", "velocity"]
  time_law: Literal["uniform", "logit_normal"]
  time_mean: float
  time_std: float
  time_shift: float
  time_max: float


@dataclasses.dataclass(frozen=True)
class SourceConfig:
  name: str
  kind: str
  weight: float
  options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class DataConfig:
  sources: tuple[SourceConfig, ...]
  tokenizer: str
  codec: str
  image_size: int
  patch_size: int
  seq_len: int
  images_per_row: int
  noise_limit: float
  caption_dropout: float
  window: int
  threads: int


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  name: Literal["adamw", "muon"]
  learning_rate: float
  adam_learning_rate: float
  warmup_steps: int
  schedule: Literal["constant", "cosine", "linear"]
  final_fraction: float
  b1: float
  b2: float
  eps: float
  weight_decay: float
  clip_norm: float


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  steps: int
  batch_size: int
  text_loss_weight: float
  image_loss_weight: float
  z_loss: float
  ema_decay: float
  log_every: int
  eval_every: int
  sample_every: int
  checkpoint_every: int
  keep_checkpoints: int


@dataclasses.dataclass(frozen=True)
class SampleConfig:
  sampler: Literal["ddpm", "ddim", "euler", "heun"]
  steps: int
  schedule_shift: float
  clip_x0: float
  guidance: float
  guidance_low: float
  guidance_high: float
  guidance_rescale: float
  temperature: float
  top_k: int
  top_p: float
  min_p: float
  max_text_tokens: int
  max_images: int


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  items: int
  batch_size: int
  loss_batches: int
  kid_images: int


@dataclasses.dataclass(frozen=True)
class Config:
  """One run. Derived sizes are properties, computed after all overrides."""

  seed: int
  model: ModelConfig
  diffusion: DiffusionConfig
  data: DataConfig
  optim: OptimConfig
  train: TrainConfig
  sample: SampleConfig
  eval: EvalConfig

  @property
  def grid(self) -> int:
    """Patches along one side of an image."""
    codec = CODECS[self.data.codec]
    return self.data.image_size // codec.stride // self.data.patch_size

  @property
  def patches(self) -> int:
    """Patches of an image."""
    return self.grid**2

  @property
  def patch_channels(self) -> int:
    """Numbers in one patch."""
    return self.data.patch_size**2 * CODECS[self.data.codec].channels

  @property
  def image_positions(self) -> int:
    """Positions of an image's span: its patches and its time token, if any."""
    return self.patches + (self.model.time_injection == "token")


SECTIONS = {
  "model": ModelConfig,
  "diffusion": DiffusionConfig,
  "data": DataConfig,
  "optim": OptimConfig,
  "train": TrainConfig,
  "sample": SampleConfig,
  "eval": EvalConfig,
}


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
  problems = _inconsistencies(result)
  if problems:
    raise ConfigError(_message(problems))
  return result


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the config as nested plain values, the inverse of from_config_dict."""
  result = dataclasses.asdict(config)
  result["data"]["sources"] = {
    s.name: {"kind": s.kind, "weight": s.weight, "options": dict(s.options)}
    for s in config.data.sources
  }
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


def nearest(name: str, known: typing.Iterable[str]) -> str:
  """Returns ' (did you mean ...?)' for the known name closest to a wrong one."""
  match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
  return f" (did you mean {match[0]!r}?)" if match else ""


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
  values = dict(values.items())
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
  for name, entry in values.items():
    path = f"data.sources.{name}."
    entry = dict(entry.items())
    _check_names(path, entry, {"kind", "weight", "options"}, problems)
    if {"kind", "weight", "options"} <= set(entry):
      weight = _typed(f"{path}weight", float, entry["weight"], problems)
      options = {
        k: v.to_dict() if hasattr(v, "to_dict") else v
        for k, v in entry["options"].items()
      }
      sources.append(SourceConfig(name, entry["kind"], weight, options))
  return tuple(sources)


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
  if type(value) is not hint:
    problems.append(
      f"{path}: expected {hint.__name__}, got {type(value).__name__} {value!r}"
    )
  return value


def _ranges(c: Config):
  m, d, data, o, t, s, e = (
    c.model, c.diffusion, c.data, c.optim, c.train, c.sample, c.eval
  )  # fmt: skip
  one = {
    "model": (m, "depth width heads kv_heads head_dim mlp_width unet_width unet_blocks "
                 "scan_unroll rope_theta norm_eps"),
    "data": (data, "image_size patch_size seq_len images_per_row window threads"),
    "diffusion": (d, "time_std time_shift"),
    "optim": (o, "learning_rate adam_learning_rate eps clip_norm"),
    "train": (t, "steps batch_size log_every eval_every sample_every "
                 "checkpoint_every keep_checkpoints"),
    "sample": (s, "steps schedule_shift max_text_tokens"),
    "eval": (e, "items batch_size loss_batches kid_images"),
  }  # fmt: skip
  for section, (values, names) in one.items():
    for name in names.split():
      yield f"{section}.{name}", getattr(values, name), getattr(values, name) > 0, "> 0"
  unit = {
    "data.noise_limit": data.noise_limit, "data.caption_dropout": data.caption_dropout,
    "diffusion.time_max": d.time_max, "optim.final_fraction": o.final_fraction,
    "optim.b1": o.b1, "optim.b2": o.b2, "train.ema_decay": t.ema_decay,
    "sample.guidance_low": s.guidance_low, "sample.guidance_high": s.guidance_high,
    "sample.guidance_rescale": s.guidance_rescale,
    "sample.top_p": s.top_p, "sample.min_p": s.min_p,
  }  # fmt: skip
  for path, value in unit.items():
    yield path, value, 0 <= value <= 1, "in [0, 1]"
  free = {
    "train.text_loss_weight": t.text_loss_weight, "train.z_loss": t.z_loss,
    "train.image_loss_weight": t.image_loss_weight,
    "optim.warmup_steps": o.warmup_steps,
    "optim.weight_decay": o.weight_decay, "sample.temperature": s.temperature,
    "sample.top_k": s.top_k, "sample.guidance": s.guidance, "sample.clip_x0": s.clip_x0,
    "sample.max_images": s.max_images, "seed": c.seed,
  }  # fmt: skip
  for path, value in free.items():
    yield path, value, value >= 0, ">= 0"


def _inconsistencies(c: Config) -> list[str]:
  bad = [
    f"{path}: {value} must be {law}" for path, value, ok, law in _ranges(c) if not ok
  ]
  if bad:
    return bad  # the laws below divide by these numbers
  m, data = c.model, c.data
  if m.heads % m.kv_heads:
    bad.append(f"model.kv_heads: {m.kv_heads} must divide model.heads {m.heads}")
  if m.depth % m.scan_unroll:
    bad.append(f"model.scan_unroll: {m.scan_unroll} must divide model.depth {m.depth}")
  axes = 4 if m.positions == "grid" else 2
  if m.head_dim % axes:
    bad.append(
      f"model.head_dim: {m.head_dim} must be a multiple of {axes} "
      f"for model.positions={m.positions!r}"
    )
  if data.codec not in CODECS:
    bad.append(f"data.codec: unknown {data.codec!r}{nearest(data.codec, CODECS)}")
    return bad
  step = CODECS[data.codec].stride * data.patch_size
  if data.image_size % step:
    bad.append(
      f"data.image_size: {data.image_size} must be a multiple of {step} "
      "(codec stride x data.patch_size)"
    )
  if m.patch_codec == "unet" and data.patch_size & (data.patch_size - 1):
    bad.append(f"data.patch_size: {data.patch_size} must be a power of 2 for a U-Net")
  need = c.image_positions + 4  # BOS, BOI, EOI, EOS
  if need > data.seq_len:
    bad.append(
      f"data.seq_len: {data.seq_len} cannot hold one image "
      f"({c.patches} patches of {data.patch_size} px make {need} positions)"
    )
  if not data.sources:
    bad.append("data.sources: name at least one source")
  elif (
    sum(s.weight for s in data.sources) <= 0 or min(s.weight for s in data.sources) < 0
  ):
    bad.append("data.sources: weights must be >= 0 and not all zero")
  if c.sample.guidance_low > c.sample.guidance_high:
    bad.append("sample.guidance_low: must not exceed sample.guidance_high")
  return bad
