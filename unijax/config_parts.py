"""Sections of what stands beside the decoder: drawers, codecs, encoders."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DitConfig:
  conditioning: Literal["cross", "joint"]
  depth: int
  dual_depth: int
  single_depth: int
  width: int
  heads: int
  mlp_width: int
  adaln: Literal["block", "shared"]
  positions: Literal["sincos", "rope", "table"]
  position_grid: int
  rope_axes: tuple[int, ...]
  rope_theta: float
  qk_norm: bool
  norm_eps: float
  time_waves: Literal["fast", "sinusoid"]
  time_scale: float
  time_features: int
  guidance: bool
  pooled: bool
  pooled_width: int
  condition_width: int
  last_queries: bool
  told: Literal["captions", "vectors"]


@dataclasses.dataclass(frozen=True)
class BridgeConfig:
  slots: int
  signal_weight: float
  connector: Literal["linear", "mlp", "encoder"]
  connector_depth: int


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
  depth: int
  width: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  norm_eps: float
  last_eps: float
  rope_theta: float
  rope_factor: float
  rope_length: int
  rope_low: float
  rope_high: float


@dataclasses.dataclass(frozen=True)
class CodecConfig:
  bottleneck: Literal["kl", "vq", "fsq", "lfq", "rvq"]
  width: int
  multipliers: tuple[int, ...]
  decoder_multipliers: tuple[int, ...]
  blocks: tuple[int, ...]
  decoder_blocks: tuple[int, ...]
  groups: int
  attention: bool
  attention_levels: tuple[int, ...]
  channels: int
  project: bool
  project_width: int
  time_stride: int
  kernel_frames: int
  time_halvings: tuple[int, ...]
  narrow_doublings: bool
  encoder_norm: Literal["group", "rms"]
  decoder_norm: Literal["group", "rms", "spatial"]
  draws: bool
  shift: float | tuple[float, ...]
  scale: float | tuple[float, ...]
  kl_weight: float
  codebook: int
  codebook_update: Literal["average", "gradient"]
  codebook_decay: float
  revive_below: float
  cosine: bool
  commitment: float
  quantizers: int
  levels: tuple[int, ...]
  entropy_weight: float
  entropy_temperature: float
  l1_weight: float
  l2_weight: float
  perceptual_weight: float
  adversary_weight: float
  adversary_start: int
  adversary_width: int
  adversary_layers: int
  encoder: str
  pooling: int


@dataclasses.dataclass(frozen=True)
class TowerConfig:
  """Shape of an encoder; `VisionConfig` and `TextConfig` add what enters and leaves."""

  depth: int
  width: int
  heads: int
  mlp_width: int
  mlp: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"]
  norm: Literal["pre", "post", "branch"]
  norm_kind: Literal["layer", "rms"]
  norm_eps: float
  qkv_bias: Literal["all", "query_value", "none"]
  qk_norm: bool
  sub_norm: bool
  layer_scale: float
  dtype: Literal["float32", "bfloat16"]
  remat: Literal["none", "full", "dots", "attention"]


@dataclasses.dataclass(frozen=True)
class VisionConfig(TowerConfig):
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  image_size: int
  patch_size: int
  patch_bias: bool
  frames: int
  crop: bool
  positions: Literal["learned", "sincos", "none"]
  position_grid: int
  position_resize: Literal["bicubic", "smooth", "corner"]
  rope_grid: int
  window: int
  whole_blocks: tuple[int, ...]
  embed_norm: bool
  registers: int
  mask_token: bool
  pool: Literal["class", "mean", "attention"]
  skip_blocks: int
  last_norm: bool
  features_norm: bool


@dataclasses.dataclass(frozen=True)
class TextConfig(TowerConfig):
  vocab: int
  length: int
  causal: bool
  pool: Literal["eos", "last"]
  canonical: Literal["as_is", "lower", "words"]
  bos: bool


@dataclasses.dataclass(frozen=True)
class AlignConfig:
  objective: Literal["softmax", "sigmoid", "distill", "queries", "none"]
  width: int
  image_projection: Literal["none", "linear", "bias"]
  text_projection: Literal["none", "linear", "bias"]
  scale: float
  max_scale: float
  scale_learned: bool
  bias: float
  frozen: str
  mask_share: float
  queries: int
  cross_every: int
  feature_norm: bool
  class_seen: bool
  writes: bool
