"""The laws between the knobs of a config: ranges, and sizes that must fit."""

from unijax import (
  codecs,
  config_align,
  config_blocks,
  config_images,
  config_laws,
  config_reads,
  config_writes,
)
from unijax.errors import ConfigError, nearest

POSITIVE = {
  "model": "depth width heads kv_heads head_dim mlp_width unet_width unet_blocks "
  "scan_unroll rope_theta rope_factor rope_low norm_eps head_width mixtures experts "
  "experts_per_token expert_width connector_depth connector_queries text_block "
  "code_width time_scale position_rows",
  "dit": "depth width heads mlp_width time_scale time_features",
  "bridge": "slots connector_depth",
  "denoiser": "width heads kv_heads head_dim mlp_width norm_eps last_eps rope_theta "
  "rope_factor rope_low",
  "data": "image_size patch_size seq_len images_per_row window mixture_every "
  "caption_length",
  "diffusion": "time_std time_shift",
  "optim": "learning_rate adam_learning_rate eps clip_norm",
  "lora": "alpha",
  "train": "steps batch_size micro_batches loss_chunks log_every eval_every "
  "sample_every token_draws hidden_std",
  "guard": "window patience hang_seconds",
  "checkpoint": "keep keep_best",
  "sample": "steps schedule_shift max_text_tokens token_steps text_steps",
  "eval": "prompts batch_size loss_batches kid_images",
  "codec": "width groups channels codebook quantizers entropy_temperature "
  "adversary_width adversary_layers pooling kernel_frames",
}
SHARES = {
  "train": "hidden_min ema_decay",
  "data": "noise_limit caption_dropout mixture_floor",
  "optim": "final_fraction",
  "sample": "guidance_low guidance_high guidance_rescale guidance_renorm_min top_p "
  "min_p schedule_last",
  "codec": "codebook_decay",
}
NOT_NEGATIVE = {
  "dit": "single_depth dual_depth position_grid rope_theta norm_eps pooled_width "
  "condition_width",
  "bridge": "signal_weight",
  "train": "text_loss_weight z_loss image_loss_weight balance_loss_weight "
  "router_z_loss",
  "optim": "warmup_steps weight_decay",
  "data": "threads resize mixture_rate",
  "checkpoint": "every_steps every_minutes keep_every_steps",
  "lora": "rank",
  "sample": "temperature top_k guidance guidance_image guidance_told clip_x0 "
  "max_images image_temperature image_top_k confidence_noise",
  "model": "shared_experts rope_length head_depth patch_grid position_first "
  "qk_norm_eps",
  "denoiser": "depth rope_length",
  "codec": "kl_weight revive_below commitment entropy_weight l1_weight l2_weight "
  "perceptual_weight adversary_weight adversary_start project_width",
}
DEGREES = {"mesh": "replica fsdp expert context tensor"}
BETWEEN = {"mesh": "dcn_replica dcn_fsdp dcn_expert dcn_context dcn_tensor"}
RANGES = (  # knobs; whether a value is in their range; what that is
  (POSITIVE, lambda x: x > 0, "> 0"),
  (SHARES, lambda x: 0 <= x <= 1, "in [0, 1]"),
  (NOT_NEGATIVE, lambda x: x >= 0, ">= 0"),
  (DEGREES, lambda x: x >= -1, ">= -1 (0: the preset's degree, -1: what is left)"),
  (BETWEEN, lambda x: x > 0 or x == -1, "> 0, or -1 for what is left"),
)


def _ranges(c):
  """Yields (path, value, whether it is in range, what its range is)."""
  for knobs, fits, law in RANGES:
    for section, names in knobs.items():
      for name in names.split():
        value = getattr(getattr(c, section), name)
        yield f"{section}.{name}", value, fits(value), law
  yield "seed", c.seed, c.seed >= 0, ">= 0"
  yield "optim.b1", c.optim.b1, 0 <= c.optim.b1 < 1, "in [0, 1)"
  yield "optim.b2", c.optim.b2, 0 <= c.optim.b2 < 1, "in [0, 1)"
  part = c.model.rope_fraction
  yield "model.rope_fraction", part, 0 < part <= 1, "in (0, 1]"
  scales = c.codec.scale if isinstance(c.codec.scale, tuple) else (c.codec.scale,)
  yield "codec.scale", c.codec.scale, min(scales, default=-1) >= 0, ">= 0"
  high, low = c.model.rope_high, c.model.rope_low
  yield "model.rope_high", high, high > low, f"> model.rope_low {low}"
  high, low = c.denoiser.rope_high, c.denoiser.rope_low
  yield "denoiser.rope_high", high, high > low, f"> denoiser.rope_low {low}"
  last = c.diffusion.time_max
  yield "diffusion.time_max", last, 0 < last <= 1, "in (0, 1]"
  for glob, rate in c.optim.rates:
    yield f"optim.rates of {glob!r}", rate, rate > 0, "> 0 (optim.freeze holds still)"
  for source in c.data.sources:
    for name, value in (("text", source.text_loss), ("image", source.image_loss)):
      yield f"data.sources.{source.name}.{name}_loss", value, value >= 0, ">= 0"
  factor, law = c.guard.spike_factor, "0 (off) or > 1"
  yield "guard.spike_factor", factor, factor == 0 or factor > 1, law
  names, project = c.track.writers, c.track.project
  yield "track.writers", names, len(set(names)) == len(names), "named once each"
  yield "track.project", repr(project), bool(project.strip()), "a name"


def problems(c) -> list[str]:
  """Returns one line for each value out of range or pair of sizes that clash.

  `c` is a `unijax.config.Config`; ranges come first, since the laws divide by them.
  What a stage makes wrong is named as the stage's.
  """
  whole = [*_problems(c), *config_align.fits(c), *_pairs(c)]
  bad = whole or list(_stages(c))
  if bad:
    return bad  # what follows builds the config of each stage
  for number, stage in enumerate(c.stages):
    bad += [f"stages.{stage.name}: {line}" for line in _problems(c.at(number))]
  return bad


def _pairs(c):
  """Problems of low-rank pairs with the rest of the config."""
  if c.lora.rank and c.optim.name == "muon":
    yield (
      "optim.name: 'muon' makes updates of whole kernels orthogonal, and with "
      f"lora.rank={c.lora.rank} they rest: use 'adamw', or lora.rank=0"
    )
  if c.lora.rank and not c.lora.targets:
    yield f"lora.targets: () names no kernel, and lora.rank={c.lora.rank} wants some"


def _stages(c):
  """Problems between the stages and the rest of the config."""
  names = {source.name for source in c.data.sources}
  weights = False
  for stage in c.stages:
    path = f"stages.{stage.name}"
    if stage.steps < 1:
      yield f"{path}.steps: {stage.steps} must be > 0"
    for name, entry in stage.changes.get("data", {}).get("sources", {}).items():
      weights |= "weight" in entry
      if name not in names:
        yield f"{path}.data.sources.{name}: no such source{nearest(name, names)}"
    if c.optim.stage_schedule == "continue":
      for name in ("warmup_steps", "schedule", "final_fraction"):
        if name in stage.changes.get("optim", {}):
          yield f"{path}.optim.{name}: read only with optim.stage_schedule='restart'"
  total = sum(stage.steps for stage in c.stages)
  if c.stages and c.train.steps != total:
    yield (
      f"train.steps: {c.train.steps}, but the stages {', '.join(c.train.stages)} have "
      f"{total} together: set it to 0, which leaves it to them"
    )
  if weights and c.data.mixture != "constant":
    yield (
      f"data.mixture: {c.data.mixture!r} and weights in stages both say how weights "
      "change: use 'constant' here, or leave the weights out of the stages"
    )


def _problems(c) -> list[str]:
  """The problems of a config whose stages are not looked at."""
  bad = [
    f"{path}: {value} must be {law}"
    for path, value, ok, law in [*_ranges(c), *config_align.ranges(c)]
    if not ok
  ]
  if bad:
    return bad  # the laws below divide by these numbers
  if c.train.task in config_laws.WITHOUT_ROWS:
    return [*config_laws.batches(c), *config_laws.WITHOUT_ROWS[c.train.task](c)]
  m, data, t = c.model, c.data, c.train
  bad += config_blocks.blocks(m)
  bad += config_blocks.reach(m, "data.seq_len", data.seq_len)
  bad += config_laws.batches(c)
  if data.seq_len % t.loss_chunks:
    bad.append(
      f"train.loss_chunks: {t.loss_chunks} must divide data.seq_len {data.seq_len}"
    )
  bad += config_blocks.dit(c.dit)
  bad += config_blocks.denoiser(c)
  try:
    codec = codecs.sizes(data.codec)
  except ConfigError as error:
    return [*bad, str(error)]
  bad += config_blocks.dit_grid(c.dit, c.grid) if c.slots else ()
  bad += config_laws.writing(c, codec)
  bad += config_writes.problems(c, codec)
  bad += () if c.write.never else config_laws.grid(data, codec)
  if m.patch_codec == "unet" and data.patch_size & (data.patch_size - 1):
    bad.append(f"data.patch_size: {data.patch_size} must be a power of 2 for a U-Net")
  bad += config_reads.problems(c)
  need = c.image_positions + 4  # BOS, BOI, EOI, EOS
  if need > data.seq_len:
    bad.append(
      f"data.seq_len: {data.seq_len} cannot hold one image "
      f"({c.patches} patches of {data.patch_size} px make {need} positions)"
    )
  bad += config_laws.schedules(data)
  bad += config_laws.chat(data)
  bad += config_blocks.experts(m)
  bad += config_images.places(c)
  bad += config_images.guidance(c)
  return bad
