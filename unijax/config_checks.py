"""The laws between the knobs of a config: ranges, and sizes that must fit."""

from unijax import codecs
from unijax.config_writes import WRITES
from unijax.errors import ConfigError


def _ranges(c):
  m, d, data, o, t, g, k, s, e = (
    c.model, c.diffusion, c.data, c.optim, c.train, c.guard, c.checkpoint, c.sample,
    c.eval,
  )  # fmt: skip
  one = {
    "model": (m, "depth width heads kv_heads head_dim mlp_width unet_width unet_blocks "
                 "scan_unroll rope_theta norm_eps head_depth head_width mixtures"),
    "data": (data, "image_size patch_size seq_len images_per_row window "
                   "mixture_every"),
    "diffusion": (d, "time_std time_shift"),
    "optim": (o, "learning_rate adam_learning_rate eps clip_norm"),
    "train": (t, "steps batch_size micro_batches loss_chunks log_every eval_every "
                 "sample_every token_draws"),
    "guard": (g, "window patience hang_seconds"),
    "checkpoint": (k, "keep keep_best"),
    "sample": (s, "steps schedule_shift max_text_tokens token_steps"),
    "eval": (e, "prompts batch_size loss_batches kid_images"),
    "codec": (c.codec, "width blocks groups channels codebook quantizers "
                       "entropy_temperature adversary_width adversary_layers"),
  }  # fmt: skip
  for section, (values, names) in one.items():
    for name in names.split():
      yield f"{section}.{name}", getattr(values, name), getattr(values, name) > 0, "> 0"
  unit = {
    "data.noise_limit": data.noise_limit, "data.caption_dropout": data.caption_dropout,
    "data.mixture_floor": data.mixture_floor,
    "optim.final_fraction": o.final_fraction, "train.ema_decay": t.ema_decay,
    "sample.guidance_low": s.guidance_low, "sample.guidance_high": s.guidance_high,
    "sample.guidance_rescale": s.guidance_rescale,
    "sample.top_p": s.top_p, "sample.min_p": s.min_p,
    "codec.codebook_decay": c.codec.codebook_decay,
  }  # fmt: skip
  for path, value in unit.items():
    yield path, value, 0 <= value <= 1, "in [0, 1]"
  yield "optim.b1", o.b1, 0 <= o.b1 < 1, "in [0, 1)"
  yield "optim.b2", o.b2, 0 <= o.b2 < 1, "in [0, 1)"
  yield "diffusion.time_max", d.time_max, 0 < d.time_max <= 1, "in (0, 1]"
  free = {
    "train.text_loss_weight": t.text_loss_weight, "train.z_loss": t.z_loss,
    "train.image_loss_weight": t.image_loss_weight,
    "optim.warmup_steps": o.warmup_steps, "data.threads": data.threads,
    "data.mixture_rate": data.mixture_rate,
    "checkpoint.every_steps": k.every_steps,
    "checkpoint.every_minutes": k.every_minutes,
    "checkpoint.keep_every_steps": k.keep_every_steps,
    "optim.weight_decay": o.weight_decay, "sample.temperature": s.temperature,
    "sample.top_k": s.top_k, "sample.guidance": s.guidance, "sample.clip_x0": s.clip_x0,
    "sample.max_images": s.max_images, "seed": c.seed,
    **{f"codec.{n}": getattr(c.codec, n) for n in (
      "kl_weight", "revive_below", "commitment", "entropy_weight", "l1_weight",
      "l2_weight", "perceptual_weight", "adversary_weight", "adversary_start")},
    "sample.image_temperature": s.image_temperature,
    "sample.image_top_k": s.image_top_k,
    "sample.confidence_noise": s.confidence_noise,
  }  # fmt: skip
  mesh = {"mesh.replica": c.mesh.replica, "mesh.fsdp": c.mesh.fsdp,
          "mesh.expert": c.mesh.expert, "mesh.context": c.mesh.context,
          "mesh.tensor": c.mesh.tensor}  # fmt: skip
  for path, value in mesh.items():
    yield path, value, value >= -1, ">= -1 (0: the preset's degree, -1: what is left)"
  between = {"mesh.dcn_replica": c.mesh.dcn_replica, "mesh.dcn_fsdp": c.mesh.dcn_fsdp,
             "mesh.dcn_expert": c.mesh.dcn_expert,
             "mesh.dcn_context": c.mesh.dcn_context,
             "mesh.dcn_tensor": c.mesh.dcn_tensor}  # fmt: skip
  for path, value in between.items():
    yield path, value, value > 0 or value == -1, "> 0, or -1 for what is left"
  for path, value in free.items():
    yield path, value, value >= 0, ">= 0"
  factor, law = g.spike_factor, "0 (off) or > 1"
  yield "guard.spike_factor", factor, factor == 0 or factor > 1, law


def _schedules(data):
  """Problems of the sources' schedules of weights."""
  scheduled, rising = data.mixture in ("step", "linear"), True
  for source in data.sources:
    path = f"data.sources.{source.name}"
    steps = [step for step, _ in source.schedule]
    if steps and not scheduled:
      yield f"{path}.schedule: read only with data.mixture 'step' or 'linear'"
    if any(b <= a for a, b in zip([0, *steps], steps, strict=False)):
      rising = False
      yield f"{path}.schedule: steps must rise from above 0, got {steps}"
    if any(weight < 0 for _, weight in source.schedule):
      yield f"{path}.schedule: weights must be >= 0"
    if source.reference and data.mixture != "loss":
      yield f"{path}.reference: read only with data.mixture='loss'"
    if data.mixture == "loss" and source.weight > 0 and source.reference <= 0:
      yield (
        f"{path}.reference: data.mixture='loss' needs the held-out loss to reach, > 0 "
        "(that of a reference run: it writes mixture/loss_NAME)"
      )
  if scheduled and not any(source.schedule for source in data.sources):
    yield f"data.mixture: {data.mixture!r} needs a schedule in one of data.sources"
  steps = {step for source in data.sources for step, _ in source.schedule}
  for step in sorted(steps) if rising else ():
    # At the points is enough: straight lines between them stay above zero.
    linear = data.mixture == "linear"
    if scheduled and not any(s.weight_at(step, linear) for s in data.sources):
      yield f"data.sources: at step {step} all weights are zero"


def _batches(c):
  """Problems of what every task reads."""
  t, data = c.train, c.data
  if t.batch_size % t.micro_batches:
    yield (
      f"train.micro_batches: {t.micro_batches} must divide train.batch_size "
      f"{t.batch_size}"
    )
  if not data.sources:
    yield "data.sources: name at least one source"
  elif (
    sum(s.weight for s in data.sources) <= 0 or min(s.weight for s in data.sources) < 0
  ):
    yield "data.sources: weights must be >= 0 and not all zero"


def _codec(c):
  """Problems of a codec in training."""
  k, size = c.codec, c.data.image_size
  if not k.multipliers or min(k.multipliers) < 1:
    yield f"codec.multipliers: {k.multipliers} must be whole numbers > 0, one a level"
    return
  for multiplier in k.multipliers:
    if k.width * multiplier % k.groups:
      yield (
        f"codec.groups: {k.groups} must divide codec.width {k.width} x codec."
        f"multipliers {multiplier}"
      )
      break
  stride = 2 ** (len(k.multipliers) - 1)
  if size % stride:
    yield (
      f"data.image_size: {size} must be a multiple of {stride}, the pixels of a latent "
      f"that {len(k.multipliers)} codec.multipliers make"
    )
  if k.bottleneck == "fsq" and (len(k.levels) != k.channels or min(k.levels) < 2):
    yield (
      f"codec.levels: {k.levels} must be numbers > 1, as many as codec.channels="
      f"{k.channels}"
    )
  if k.bottleneck == "lfq" and k.channels > 20:
    yield f"codec.channels: {k.channels} bits are too many for lfq; at most 20"
  if k.bottleneck == "lfq" and k.entropy_weight and c.train.micro_batches > 1:
    yield (
      "train.micro_batches: the entropy loss of lfq is one of a whole batch: use 1, or "
      "set codec.entropy_weight=0"
    )
  if not k.l1_weight + k.l2_weight:
    yield "codec.l1_weight, codec.l2_weight: one must be > 0, or nothing is learned"
  if k.adversary_weight and size < 2 ** (k.adversary_layers + 1):
    yield (
      f"codec.adversary_layers: {k.adversary_layers} halvings of data.image_size="
      f"{size} leave no patches"
    )
  if k.adversary_weight and k.adversary_width % 8:
    yield f"codec.adversary_width: {k.adversary_width} must be a multiple of 8"
  if c.data.mixture != "constant":
    yield f"data.mixture: {c.data.mixture!r} changes packed rows; a codec reads none"


# Laws of the tasks that read no rows of text and images.
WITHOUT_ROWS = {"codec": _codec}


def _writing(c, codec):
  """Problems of the way images are written with what it needs."""
  m, write = c.model, WRITES[c.model.write]
  if write.in_order and m.image_mask != "causal":
    yield (
      f"model.image_mask: {m.image_mask!r} would show a position what "
      f"model.write={m.write!r} predicts there: use 'causal'"
    )
  if write.discrete and not codec.codebook:
    yield (
      f"model.write: {m.write!r} writes codes, and data.codec={c.data.codec!r} has "
      "none: use a codec with a codebook, such as 'blocks', or model.write='diffusion'"
    )
  if write.discrete and c.data.patch_size != 1:
    yield (
      f"data.patch_size: {c.data.patch_size} must be 1 with model.write={m.write!r}, "
      "which has one code a latent"
    )
  if not write.timed and m.time_injection != "add":
    yield (
      f"model.time_injection: {m.time_injection!r} has no timestep to carry with "
      f"model.write={m.write!r}: leave it at 'add'"
    )
  if not write.timed and m.patch_codec != "linear":
    yield (
      f"model.patch_codec: {m.patch_codec!r} mixes the patches of an image by their "
      f"timestep, which model.write={m.write!r} does not have: use 'linear'"
    )


def problems(c) -> list[str]:
  """Returns one line for each value out of range or pair of sizes that clash.

  `c` is a `unijax.config.Config`; ranges come first, since the laws divide by them.
  """
  bad = [
    f"{path}: {value} must be {law}" for path, value, ok, law in _ranges(c) if not ok
  ]
  if bad:
    return bad  # the laws below divide by these numbers
  if c.train.task in WITHOUT_ROWS:
    return [*_batches(c), *WITHOUT_ROWS[c.train.task](c)]
  m, data = c.model, c.data
  if m.heads % m.kv_heads:
    bad.append(f"model.kv_heads: {m.kv_heads} must divide model.heads {m.heads}")
  if m.depth % m.scan_unroll:
    bad.append(f"model.scan_unroll: {m.scan_unroll} must divide model.depth {m.depth}")
  t = c.train
  bad += _batches(c)
  if data.seq_len % t.loss_chunks:
    bad.append(
      f"train.loss_chunks: {t.loss_chunks} must divide data.seq_len {data.seq_len}"
    )
  axes = 4 if m.positions == "grid" else 2
  if m.head_dim % axes:
    bad.append(
      f"model.head_dim: {m.head_dim} must be a multiple of {axes} "
      f"for model.positions={m.positions!r}"
    )
  try:
    codec = codecs.sizes(data.codec)
  except ConfigError as error:
    return [*bad, str(error)]
  bad += _writing(c, codec)
  continuous = not WRITES[m.write].discrete
  if data.codec not in codecs.BUILT_IN and continuous and 0 < c.sample.clip_x0 < 3:
    bad.append(
      f"sample.clip_x0: {c.sample.clip_x0} is a bound for pixels; latents of a trained "
      "codec have unit variance and go beyond: use 0 (none), or 3 or more"
    )
  step = codec.stride * data.patch_size
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
  bad += _schedules(data)
  if c.sample.guidance_low > c.sample.guidance_high:
    bad.append("sample.guidance_low: must not exceed sample.guidance_high")
  return bad
