"""The laws between the knobs of encoders and of what aligns them."""


def ranges(c):
  """Yields (knob, value, whether it is in range, the law); `c` is a Config."""
  one = {
    "vision": (c.vision, "depth width heads mlp_width norm_eps patch_size frames"),
    "text": (c.text, "depth width heads mlp_width norm_eps"),
    "align": (c.align, "width scale max_scale queries cross_every"),
  }
  free = {
    "vision": (
      c.vision,
      "layer_scale window registers position_grid skip_blocks image_size",
    ),
    "text": (c.text, "layer_scale vocab"),
  }
  for section, (values, names) in one.items():
    for name in names.split():
      value = getattr(values, name)
      yield f"{section}.{name}", value, value > 0, "> 0"
  for section, (values, names) in free.items():
    for name in names.split():
      value = getattr(values, name)
      yield f"{section}.{name}", value, value >= 0, ">= 0"
  yield "text.length", c.text.length, c.text.length > 2, "> 2 (BOS, a word, EOS)"
  rope = c.vision.rope_grid
  yield "vision.rope_grid", rope, rope >= -1, ">= -1 (-1 counts patches as they are)"
  for value in c.vision.whole_blocks:
    fits = 0 <= value < c.vision.depth
    yield "vision.whole_blocks", value, fits, "the number of a block"
  for value in c.vision.std:
    yield "vision.std", value, value > 0, "> 0"
  share = c.align.mask_share
  yield "align.mask_share", share, 0 < share < 1, "in (0, 1)"


def problems(c) -> list[str]:
  """Returns one line for each pair of knobs that clash in an alignment run."""
  return [*_shapes(c), *_objective(c), *_batches(c)]


def tower(name: str, values):
  """Problems of the shape of the encoder of a section."""
  if values.width % values.heads:
    yield f"{name}.heads: {values.heads} must divide {name}.width {values.width}"


def stack(c):
  """Problems of the blocks in which queries look at a picture."""
  every = c.align.cross_every
  if c.text.depth % every:
    yield f"align.cross_every: {every} must divide text.depth {c.text.depth}"


def pictures(c):
  """Problems of what `vision` reads."""
  v = c.vision
  size = c.seen_size
  if v.window and (v.pool == "class" or v.registers):
    yield (
      f"vision.window: {v.window} patches a side have no place for tokens that stand "
      "nowhere: use vision.pool='mean' or 'attention', and vision.registers=0"
    )
  if v.whole_blocks and not v.window:
    yield f"vision.whole_blocks: {v.whole_blocks} is read with vision.window only"
  if c.data.fit == "native":
    size = v.patch_size  # each picture has its own
  if size < v.patch_size or (size % v.patch_size and not v.crop):
    knob = "vision" if v.image_size else "data"
    yield (
      f"{knob}.image_size: {size} must be a multiple of vision.patch_size "
      f"{v.patch_size} (or larger than it, with vision.crop)"
    )
  if not v.last_norm and (v.features_norm or c.train.task != "unified"):
    yield (
      "vision.last_norm: False leaves out the norm that one vector of a picture, and "
      "with vision.features_norm=True features pass: use True, or for features alone "
      "vision.features_norm=False"
    )
  if v.skip_blocks >= v.depth:
    yield (
      f"vision.skip_blocks: {v.skip_blocks} must be less than vision.depth {v.depth}"
    )
  if v.position_grid and v.positions != "learned":
    yield (
      f"vision.position_grid: {v.position_grid} is read with vision.positions="
      f"'learned' only, and it is {v.positions!r}: use 0"
    )
  if v.positions == "sincos" and v.width % 4:
    yield f"vision.width: {v.width} must be a multiple of 4 for vision.positions=sincos"
  if v.rope_grid and v.width // v.heads % 4:
    yield (
      f"vision.heads: heads of {v.width // v.heads} channels must be a multiple of 4 "
      "wide for vision.rope_grid"
    )


def fits(c):
  """Problems of how pictures become squares, or do not."""
  data = c.data
  if data.fit == "native" and c.train.task != "unified":
    yield (
      f"data.fit: train.task={c.train.task!r} reads squares: use 'crop', 'resize', "
      "'pad' or 'squeeze'"
    )
  if data.resize and data.fit != "resize":
    yield f"data.resize: {data.resize} is read with data.fit='resize' only: use 0"
  if 0 < data.resize < data.image_size:
    yield (
      f"data.resize: {data.resize} pixels hold no square of data.image_size "
      f"{data.image_size}"
    )


def _shapes(c):
  if c.vision.image_size:
    yield (
      f"vision.image_size: {c.vision.image_size} is the size of pictures that a model "
      "reads beside those it writes; here data.image_size says it: use 0"
    )
  yield from tower("vision", c.vision)
  yield from tower("text", c.text)
  yield from pictures(c)


def _objective(c):
  a, pairs = c.align, c.align.objective not in ("distill", "none")
  queries = a.objective == "queries"
  if a.objective == "distill" and not a.frozen:
    yield (
      "align.frozen: align.objective='distill' needs a teacher: the directory of an "
      "alignment run that is done, such as one of configs/clip.py:tiny"
    )
  if a.frozen and a.objective in ("softmax", "sigmoid", "none"):
    yield (
      f"align.frozen: align.objective={a.objective!r} trains its own encoders; begin "
      "from another run's with --init-from"
    )
  if a.scale > a.max_scale:
    yield f"align.scale: {a.scale} must not exceed align.max_scale {a.max_scale}"
  image = c.text.width if queries else c.vision.width
  for side, width in (("image", image), ("text", c.text.width)):
    none = getattr(a, f"{side}_projection") == "none"
    if pairs and none and width != a.width:
      yield (
        f"align.{side}_projection: without one, align.width {a.width} must be the "
        f"encoder's width {width}"
      )
  if queries:
    yield from stack(c)
  patches = (c.data.image_size // c.vision.patch_size) ** 2
  if a.objective == "distill" and not 1 <= round(a.mask_share * patches) < patches:
    yield (
      f"align.mask_share: {a.mask_share} of {patches} patches hides none, or all: "
      "change it or vision.patch_size"
    )


def _batches(c):
  t, pairs = c.train, c.align.objective not in ("distill", "none")
  if pairs and t.micro_batches > 1:
    yield (
      f"train.micro_batches: {t.micro_batches}: every picture is compared with every "
      "text of the batch, so that parts of it have another loss; use 1, and "
      "train.loss_chunks or vision.remat and text.remat to save memory"
    )
  if pairs and t.batch_size % t.loss_chunks:
    yield (
      f"train.loss_chunks: {t.loss_chunks} must divide train.batch_size {t.batch_size}"
    )
  if c.data.mixture != "constant":
    yield (
      f"data.mixture: {c.data.mixture!r} changes weights by packed rows, which "
      "train.task='alignment' does not have: use 'constant'"
    )
