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
  for multiplier in (*k.multipliers, *k.decoder_multipliers):
    if k.width * multiplier % k.groups:
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
  if k.time_stride < 1 or k.time_stride & (k.time_stride - 1):
    yield f"codec.time_stride: {k.time_stride} must be 1, 2, 4, .., as time is halved"
  elif (
    k.time_stride > 1
    and k.decoder_norm == "spatial"
    and (k.project_width not in (0, k.channels))
  ):
    yield (
      f"codec.project_width: {k.project_width} channels, but the same convolutions "
      f"over time read latents of {k.channels}, which guide norms: use 0"
    )
