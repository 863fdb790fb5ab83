"""Laws between the knobs of a config: sizes that must fit, choices that exclude others.

Each function yields one line a problem; `config_checks.problems` calls them.
"""

from unijax import codecs, config_align, config_blocks, config_codec, config_images
from unijax.config_writes import WRITES
from unijax.errors import ConfigError, nearest

CHAT = (
  "begin", "system", "user", "user_end", "assistant", "assistant_end", "image_begin",
  "image_end", "draw_begin", "draw_user", "draw_user_end", "draw_assistant",
  "draw_image",
)  # fmt: skip


def chat(data):
  """Problems of what stands around turns."""
  for name in sorted({name for name, _ in data.chat} - set(CHAT)):
    yield f"data.chat: no part {name!r}{nearest(name, CHAT)}; {', '.join(CHAT)}"


def schedules(data):
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


def writing(c, codec):
  """Problems of the way images are written with what it needs."""
  m, write = c.model, WRITES[c.model.write]
  if write.in_order and m.image_mask != "causal":
    yield (
      f"model.image_mask: {m.image_mask!r} would show a position what "
      f"model.write={m.write!r} predicts there: use 'causal'"
    )
  if (write.blocks or write.hidden) and m.image_mask != "bidirectional":
    yield (
      f"model.image_mask: {m.image_mask!r} would hide later positions from earlier "
      f"ones, and model.write={m.write!r} fills them in any order: use 'bidirectional'"
    )
  if write.blocks and m.text_block > c.data.seq_len - c.image_positions - 4:
    yield (
      f"model.text_block: {m.text_block} positions and an image of "
      f"{c.image_positions} do not fit data.seq_len={c.data.seq_len}"
    )
  if write.blocks and c.sample.stops:
    yield f"sample.stops: model.write={m.write!r} fills blocks and reads none: use ()"
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
  if m.time_token == "alone" and m.time_injection != "token":
    yield (
      "model.time_token: 'alone' is of the token before an image, and model."
      f"time_injection={m.time_injection!r} has none: use 'added', or 'token'"
    )
  if m.patch_out == "run" and (m.write != "diffusion" or m.patch_codec != "linear"):
    yield (
      "model.patch_out: 'run' is what the linear patches of model.write='diffusion' "
      f"may say, not model.write={m.write!r} with model.patch_codec={m.patch_codec!r}: "
      "use 'patch'"
    )
  if not write.timed and m.patch_codec != "linear":
    yield (
      f"model.patch_codec: {m.patch_codec!r} mixes the patches of an image by their "
      f"timestep, which model.write={m.write!r} does not have: use 'linear'"
    )
  if c.data.clean_copy and not write.whole:
    yield (
      f"data.clean_copy: with model.write={m.write!r} an image is read as it is, and "
      "there is no noised one to put a clean copy beside: use False, or model.write="
      "'diffusion' or 'masked'"
    )
  if c.data.clean_copy and m.attention not in ("auto", "dense"):
    yield (
      f"model.attention: {m.attention!r} computes intervals, and with data.clean_copy="
      "True the mask is none: use 'dense', which is exact and slower"
    )
  bound = c.sample.clip_x0
  if c.data.codec not in codecs.BUILT_IN and not write.discrete and 0 < bound < 3:
    yield (
      f"sample.clip_x0: {bound} is a bound for pixels; latents of a trained codec have "
      "unit variance and go beyond: use 0 (none), or 3 or more"
    )


def batches(c):
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


def codec(c):
  """Problems of a codec in training."""
  k, size = c.codec, c.data.image_size
  if not k.multipliers or min(k.multipliers) < 1:
    yield f"codec.multipliers: {k.multipliers} must be whole numbers > 0, one a level"
    return
  yield from config_codec.levels(k)
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
  if k.shift and not k.scale:
    yield f"codec.shift: {k.shift} is not read while codec.scale is 0 (measured)"
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


def grid(data, codec):
  """Problems of cutting a picture into patches."""
  step = codec.stride * data.patch_size
  if data.image_size % step:
    yield (
      f"data.image_size: {data.image_size} must be a multiple of {step} "
      "(codec stride x data.patch_size)"
    )
  only = codecs.only_size(data.codec)
  if only and data.image_size != only:
    yield (
      f"data.image_size: {data.image_size}, but data.codec={data.codec!r} reads "
      f"pictures of {only} pixels and no others"
    )


def drawing(c):
  """Problems of a model that only draws."""
  m = c.model
  yield from config_blocks.blocks(m)
  yield from config_blocks.reach(m, "data.caption_length", c.data.caption_length)
  yield from config_blocks.dit(c.dit)
  if m.write != "diffusion":
    yield (
      f"model.write: {m.write!r} is a way of the unified model; with train.task="
      "'drawing' dit denoises patches: leave it at 'diffusion'"
    )
  if c.data.mixture != "constant":
    yield (
      f"data.mixture: {c.data.mixture!r} changes packed rows; drawing reads pictures "
      "with captions, mixed by 'constant'"
    )
  yield from config_images.guidance(c)
  if c.dit.told == "vectors" and not c.dit.condition_width:
    yield (
      "dit.condition_width: 0, but with dit.told='vectors' no encoder says how wide "
      "they are"
    )
  try:
    yield from grid(c.data, codecs.sizes(c.data.codec))
    yield from config_blocks.dit_grid(c.dit, c.grid)
  except ConfigError as error:
    yield str(error)


def decoder(c):
  """Problems of a decoder of features in training."""
  v, size, k = c.vision, c.data.image_size, c.codec
  yield from config_blocks.dit(c.dit)
  if c.data.codec != "pixels":
    yield (
      f"data.codec: {c.data.codec!r}, but train.task='decoder' draws pixels: leave it "
      "at 'pixels'"
    )
  elif size % c.data.patch_size:
    yield (
      f"data.image_size: {size} must be a multiple of data.patch_size "
      f"{c.data.patch_size}"
    )
  yield from config_blocks.dit_grid(c.dit, size // c.data.patch_size)
  if not k.encoder:  # else its shape is that of the run's encoder
    yield from config_align.tower("vision", v)
    yield from config_align.pictures(c)
    if size // v.patch_size % k.pooling:
      yield (
        f"codec.pooling: {k.pooling} must divide the {size // v.patch_size} patches of "
        "vision.patch_size along a side"
      )
    if v.width % 4:
      yield f"vision.width: {v.width} must be a multiple of 4 for places of features"
  if c.data.mixture != "constant":
    yield f"data.mixture: {c.data.mixture!r} changes packed rows; a codec reads none"
  if c.sample.guidance_low > c.sample.guidance_high:
    yield "sample.guidance_low: must not exceed sample.guidance_high"


# Laws of the tasks that read no rows of text and images.
WITHOUT_ROWS = {
  "codec": codec,
  "alignment": config_align.problems,
  "drawing": drawing,
  "decoder": decoder,
}
