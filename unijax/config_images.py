"""Laws of where patches of an image stand, and of what guides its drawing."""


def places(c):
  """Problems of vectors for places in images, and of waves of time; `c` is a Config."""
  m, v = c.model, c.vision
  if m.patch_grid and m.patch_position == "none":
    yield (
      f"model.patch_grid: {m.patch_grid} is read with a vector for each place only, "
      "and model.patch_position is 'none': use 0"
    )
  elif m.patch_grid and m.patch_grid < c.grid:
    yield (
      f"model.patch_grid: {m.patch_grid} places a side have no vectors for the "
      f"{c.grid} patches of an image of {c.data.image_size} pixels"
    )
  if m.patch_position == "fixed" and m.width % 4:
    yield f"model.width: {m.width} must be a multiple of 4 for fixed places of patches"
  if m.time_scale != 1 and m.time_waves != "sinusoid":
    yield f"model.time_scale: {m.time_scale:g} is read by model.time_waves='sinusoid'"
  if m.time_features < 2 or m.time_features % 2:
    yield f"model.time_features: {m.time_features} must be even: sines and cosines"
  if c.data.clean_copy and m.time_injection == "boi":
    yield (
      "model.time_injection: 'boi' gives BOI the timestep of its image, and with "
      "data.clean_copy it stands before a noised and a clean one: use 'token'"
    )
  if m.feature_position != "none" and not c.read.features:
    yield (
      f"model.feature_position: model.read={m.read!r} has no features in the row: use "
      "'none'"
    )
  side, grid = v.position_grid, c.seen_size // v.patch_size
  if c.read.encodes and v.position_resize == "corner" and side and grid > side:
    yield (
      f"vision.position_grid: {side} places a side have no vectors for the {grid} "
      f"patches of a picture of {c.seen_size} pixels, and vision.position_resize="
      "'corner' makes none: use 'bicubic', or a smaller picture"
    )


def guidance(c):
  """Problems of what guides a drawing."""
  s = c.sample
  if c.train.task != "unified" and s.guidance_image != 1:
    yield (
      f"sample.guidance_image: {s.guidance_image:g}, and train.task={c.train.task!r} "
      "draws from words alone: use 1"
    )
  marks = [patches for patches, _ in s.schedule_patches]
  if marks and (len(marks) != 2 or marks[0] == marks[1]):
    yield (
      f"sample.schedule_patches: {s.schedule_patches} must be two points of a line, at "
      "different numbers of patches"
    )
  if s.guidance_low > s.guidance_high:
    yield "sample.guidance_low: must not exceed sample.guidance_high"
  slopes = [
    f"sample.{name}: {value!r}"
    for name, value, off in (
      ("guidance_image", s.guidance_image, 1.0),
      ("guidance_renorm", s.guidance_renorm, "none"),
    )
    if value != off
  ]
  for said in slopes:
    if c.model.write != "diffusion":
      yield (
        f"{said} acts on the slope of a whole image, and model.write="
        f"{c.model.write!r} has none: leave it off"
      )
    elif s.guidance_rescale:
      yield f"{said} and sample.guidance_rescale both change norms: use one"
