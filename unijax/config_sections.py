"""The sections of a config and the type of every knob.

`configs/base.py` has their values and reasons, `config_checks` their ranges. Those of
what stands beside the decoder are in `config_parts`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from unijax.config_parts import (
  AlignConfig,
  BridgeConfig,
  CodecConfig,
  DenoiserConfig,
  DitConfig,
  TextConfig,
  VisionConfig,
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  depth: int
  width: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  positions: Literal["sequential", "shared", "grid", "learned"]
  position_rows: int
  position_first: int
  rope_sections: tuple[int, ...]
  rope_theta: float
  rope_fraction: float
  rope_factor: float
  rope_low: float
  rope_high: float
  rope_length: int
  qk_norm: bool
  qk_norm_kind: Literal["rms", "layer", "layer_heads"]
  qk_norm_eps: float
  norm: Literal["rms", "layer"]
  norm_eps: float
  block: Literal["pre", "branch", "parallel"]
  mlp: Literal["swiglu", "gelu", "gelu_tanh", "quick_gelu", "relu"]
  bias: Literal["none", "qkv", "attention", "all"]
  head_bias: bool
  tie_embeddings: bool
  patch_codec: Literal["linear", "unet", "convnext"]
  unet_width: int
  unet_blocks: int
  patch_out: Literal["patch", "run"]
  patch_position: Literal["none", "learned", "fixed"]
  patch_grid: int
  time_injection: Literal["add", "token", "boi", "adaln"]
  time_token: Literal["added", "alone"]
  time_waves: Literal["fast", "sinusoid"]
  time_scale: float
  time_features: int
  time_of: Literal["noise", "data"]
  image_mask: Literal["bidirectional", "causal", "framed"]
  attention: Literal["auto", "dense", "splash", "tokamax"]
  dtype: Literal["float32", "bfloat16"]
  remat: Literal["none", "full", "dots", "attention", "offload"]
  scan_unroll: int
  write: Literal[
    "diffusion", "codes", "masked", "token_diffusion", "gmm", "bridge", "regression",
    "masked_all", "masked_diffusion", "none",
  ]  # fmt: skip
  head_depth: int
  head_width: int
  mixtures: int
  sharing: Literal["shared", "ffn", "full", "experts"]
  experts: int
  experts_per_token: int
  shared_experts: int
  expert_width: int
  expert_routing: Literal["joint", "by_modality"]
  expert_weights: Literal["chosen", "all"]
  read: Literal["patches", "features", "both", "needed", "fused", "fused_latents"]
  connector: Literal["linear", "mlp", "shuffle", "merge", "resampler", "qformer"]
  connector_activation: Literal["gelu", "gelu_tanh"]
  connector_depth: int
  feature_begin: bool
  connector_queries: int
  feature_position: Literal["none", "fixed"]
  code_adapter: Literal["none", "mlp"]
  code_width: int
  text_block: int


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  preset: Literal["dp", "fsdp", "fsdp_tp", "fsdp_cp", "fsdp_ep"]
  replica: int
  fsdp: int
  expert: int
  context: int
  tensor: int
  dcn_replica: int
  dcn_fsdp: int
  dcn_expert: int
  dcn_context: int
  dcn_tensor: int


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
  schedule: tuple[tuple[int, float], ...] = ()  # (step, weight) after step 0
  reference: float = 0.0  # held-out loss to reach, for mixture="loss"
  text_loss: float = 1.0  # factor of its documents' text weights
  image_loss: float = 1.0  # and of their image weights

  def weight_at(self, step: int, linear: bool) -> float:
    """Returns the weight at a step: `weight` at 0, then by the schedule.

    Straight lines between the points if `linear`, else each holds until the next.
    """
    points = [(0, self.weight), *self.schedule]
    for (start, weight), (end, after) in zip(points, points[1:], strict=False):
      if step < end:
        slope = (after - weight) * (step - start) / (end - start) if linear else 0.0
        return weight + slope
    return points[-1][1]


@dataclasses.dataclass(frozen=True)
class DataConfig:
  sources: tuple[SourceConfig, ...]
  tokenizer: str
  codec: str
  image_size: int
  fit: Literal["crop", "resize", "pad", "squeeze", "native"]
  native_pixels: tuple[int, int]
  resample: Literal["lanczos", "bicubic", "bilinear"]
  resize: int
  patch_size: int
  seq_len: int
  images_per_row: int
  noise_limit: float
  caption_dropout: float
  without_text: Literal["dropped", "bare", "padded", "hidden"]
  window: int
  threads: int
  mixture: Literal["constant", "step", "linear", "loss"]
  mixture_every: int
  mixture_rate: float
  mixture_floor: float
  caption_length: int
  vocab: int
  special: tuple[tuple[str, int], ...]
  code_ids: tuple[int, ...]
  chat: tuple[tuple[str, str], ...]
  marks: tuple[tuple[str, int], ...]
  pictures_first: bool
  image_tokens: tuple[tuple[str, int], ...]
  image_frame: Literal["marked", "bare"]
  clean_copy: bool


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
  freeze: tuple[str, ...]
  rates: tuple[tuple[str, float], ...]
  stage_schedule: Literal["restart", "continue"]


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  rank: int
  alpha: float
  targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  steps: int
  batch_size: int
  micro_batches: int
  loss_chunks: int
  text_loss_weight: float
  image_loss_weight: float
  z_loss: float
  ema_decay: float
  log_every: int
  eval_every: int
  sample_every: int
  token_draws: int
  regression: Literal["squared", "cosine"]
  balance_loss_weight: float
  router_z_loss: float
  task: Literal["unified", "codec", "alignment", "drawing", "decoder"]
  stages: tuple[str, ...]
  hidden_min: float
  hidden_std: float


@dataclasses.dataclass(frozen=True)
class StageConfig:
  """A part of a run: its number of steps, and the knobs that it changes.

  `changes` maps a section to {knob: value}; that of data is {"sources": {name: {entry:
  value}}}. Only what `STAGE_KNOBS` and `STAGE_SOURCE` list may be in it.
  """

  name: str
  steps: int
  changes: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  every_steps: int
  every_minutes: float
  best_metric: str
  best_mode: Literal["min", "max"]
  keep: int
  keep_every_steps: int
  keep_best: int


@dataclasses.dataclass(frozen=True)
class GuardConfig:
  spike_factor: float
  window: int
  patience: int
  hang_seconds: float
  hang_exit: bool


@dataclasses.dataclass(frozen=True)
class TrackConfig:
  writers: tuple[Literal["wandb", "mlflow"], ...]
  project: str


@dataclasses.dataclass(frozen=True)
class SampleConfig:
  sampler: Literal["ddpm", "ddim", "euler", "heun"]
  steps: int
  schedule_shift: float
  schedule_patches: tuple[tuple[int, float], ...]
  schedule_last: float
  clip_x0: float
  guidance: float
  guidance_low: float
  guidance_high: float
  guidance_rescale: float
  guidance_image: float
  guidance_renorm: Literal["none", "patch", "image", "text_patch"]
  guidance_renorm_min: float
  guidance_told: float
  negative_prompt: str
  prompt_suffix: str
  layers_apart: bool
  think_draw: str
  think_answer: str
  temperature: float
  top_k: int
  top_p: float
  min_p: float
  stops: tuple[int, ...]
  max_text_tokens: int
  max_images: int
  image_temperature: float
  image_top_k: int
  confidence_noise: float
  confidence_decay: Literal["linear", "product"]
  token_steps: int
  text_steps: int


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  prompts: int
  batch_size: int
  loss_batches: int
  kid_images: int


SECTIONS = {
  "model": ModelConfig,
  "dit": DitConfig,
  "bridge": BridgeConfig,
  "denoiser": DenoiserConfig,
  "mesh": MeshConfig,
  "diffusion": DiffusionConfig,
  "data": DataConfig,
  "optim": OptimConfig,
  "lora": LoraConfig,
  "train": TrainConfig,
  "guard": GuardConfig,
  "track": TrackConfig,
  "checkpoint": CheckpointConfig,
  "sample": SampleConfig,
  "eval": EvalConfig,
  "codec": CodecConfig,
  "vision": VisionConfig,
  "text": TextConfig,
  "align": AlignConfig,
}

# What a stage may change: nothing that decides the shape of an array or of a batch.
STAGE_KNOBS = {
  "diffusion": "loss_target time_law time_mean time_std time_shift",
  "optim": "learning_rate adam_learning_rate warmup_steps schedule final_fraction b1 "
  "b2 eps weight_decay clip_norm freeze rates",
  "train": "text_loss_weight image_loss_weight z_loss ema_decay",
}
STAGE_SOURCE = "weight text_loss image_loss"  # of each of data.sources
