"""What must fit together in the levels of an autoencoder."""


def levels(k):
  """Problems of what a codec has by level."""
  count = len(k.multipliers)
  by_level = {
    "decoder_multipliers": (k.decoder_multipliers, (0, count), "() or one a level"),
    "blocks": (k.blocks, (1, count), "one for all levels, or one a level"),
    "decoder_blocks": (k.decoder_blocks, (0, count), "() or one a level"),
  }
  for name, (values, lengths, wanted) in by_level.items():
    if len(values) not in lengths or min(values, default=1) < 1:
      yield (
        f"codec.{name}: {values} must be whole numbers > 0, {wanted}; codec."
        f"multipliers has {count} levels"
      )
  grouped = {k.encoder_norm, k.decoder_norm} != {"rms"}
  for multiplier in (*k.multipliers, *k.decoder_multipliers):
    if grouped and k.width * multiplier % k.groups:
      yield (
        f"codec.groups: {k.groups} must divide codec.width {k.width} x codec."
        f"multipliers {multiplier}"
      )
      break
  inside = range(count)
  if set(k.attention_levels) - set(inside) or (
    len(set(k.attention_levels)) < len(k.attention_levels)
  ):
    yield (
      f"codec.attention_levels: {k.attention_levels} must be different levels, of 0 .. "
      f"{count - 1}"
    )
  if k.project_width and not k.project:
    yield f"codec.project_width: {k.project_width} is not read without codec.project"
  above = (k.decoder_multipliers or k.multipliers)[1:]
  if k.narrow_doublings and any(k.width * m % 2 for m in above):
    yield (f"codec.narrow_doublings: codec.width {k.width} x {above} must be even")
  yield from time(k)
  yield from scales(k)


def time(k):
  """Problems of the frames of clips."""
  count, halved = len(k.multipliers), k.time_halvings
  if k.time_stride < 1 or k.time_stride & (k.time_stride - 1):
    yield f"codec.time_stride: {k.time_stride} must be 1, 2, 4, .., as time is halved"
  elif k.kernel_frames > 1 and k.time_stride != 2 ** len(halved):
    yield (
      f"codec.time_stride: {k.time_stride} must be {2 ** len(halved)}, as codec."
      f"time_halvings={halved} halves time where codec.kernel_frames={k.kernel_frames}"
    )
  elif (
    k.time_stride > 1
    and k.decoder_norm == "spatial"
    and (k.project_width not in (0, k.channels))
  ):
    yield (
      f"codec.project_width: {k.project_width} channels, but the same convolutions "
      f"over time read latents of {k.channels}, which guide norms: use 0"
    )
  if k.kernel_frames == 1 and halved:
    yield (
      f"codec.time_halvings: {halved} is not read while codec.kernel_frames is 1: time "
      "is halved around the latents, by codec.time_stride"
    )
  if set(halved) - set(range(count - 1)) or len(set(halved)) < len(halved):
    yield (
      f"codec.time_halvings: {halved} must be different levels that have a next one, "
      f"of 0 .. {count - 2}"
    )
  if k.kernel_frames > 1 and k.decoder_norm == "spatial":
    yield (
      "codec.decoder_norm: 'spatial' is guided by latents of fewer frames than "
      f"codec.kernel_frames={k.kernel_frames} has at other levels: use 'group' or 'rms'"
    )


def scales(k):
  """Problems of what latents are multiplied with for others."""
  for name in ("shift", "scale"):
    values = getattr(k, name)
    if isinstance(values, tuple) and len(values) != k.channels:
      yield (
        f"codec.{name}: {len(values)} numbers, and codec.channels={k.channels}: one a "
        "channel, or one number for all"
      )
  if isinstance(k.scale, tuple) and 0 in k.scale:
    yield f"codec.scale: {k.scale} must be > 0 for each channel (0 for all: measured)"
