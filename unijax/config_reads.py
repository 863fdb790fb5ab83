"""What configs, rows and the model must know of each way to read images.

`model.read` names how a context image, one that a user shows, is read. Images that the
model has drawn, or learns to draw, are read as they are written.
"""

import dataclasses

from unijax import config_align


@dataclasses.dataclass(frozen=True)
class Read:
  """Facts of one way to read images.

  Attributes:
    written: a context image has the patches or codes that it would be written with.
    features: after them, if any, it has positions that hold what an encoder says of
      its pixels.
    needed: where no image is drawn, it has the features alone.
    fused: the encoder's features are combined with the patches at the same places.
    latents: it reads the patches of all images, in the place of pixels of those shown.
  """

  written: bool = False
  features: bool = False
  needed: bool = False
  fused: bool = False
  latents: bool = False

  @property
  def encodes(self) -> bool:
    """Whether there is an encoder."""
    return self.features or self.fused

  @property
  def pictures(self) -> bool:
    """Whether rows have pictures for it, and positions for what it says of them."""
    return self.encodes and not self.latents


READS = {
  "patches": Read(written=True),
  "features": Read(features=True),
  "both": Read(written=True, features=True),
  "needed": Read(written=True, features=True, needed=True),
  "fused": Read(written=True, fused=True),
  "fused_latents": Read(written=True, fused=True, latents=True),
}
FACTORS = {"shuffle": 2, "merge": 2}  # features a side that connectors make one of
ASKING = ("resampler", "qformer")  # learned queries, which have no places, look at them
# Positions that come out of a connector: (features, queries) -> their number.
LENGTHS = {
  "linear": lambda features, queries: features,
  "mlp": lambda features, queries: features,
  "shuffle": lambda features, queries: features // FACTORS["shuffle"] ** 2,
  "merge": lambda features, queries: features // FACTORS["merge"] ** 2,
  "resampler": lambda features, queries: queries,
  "qformer": lambda features, queries: queries,
}


def problems(c):
  """Yields one line for each pair of knobs that clash; `c` is a Config."""
  m, read = c.model, READS[c.model.read]
  if c.write.never and read.fused | (read.written and read.features):
    yield (
      f"model.read: {m.read!r} reads images as they are written, too, and with "
      "model.write='none' they are not: use 'features'"
    )
  if c.data.image_frame == "bare" and not read.features:
    yield (
      "data.image_frame: 'bare' leaves out what stands around an encoder's features, "
      f"and model.read={m.read!r} has none in the row: use 'marked'"
    )
  if m.feature_begin and (not read.features or c.data.image_frame == "bare"):
    yield (
      "model.feature_begin: True is for the BOI before features of an encoder, and "
      f"with model.read={m.read!r} and image_frame={c.data.image_frame!r} there is "
      "none: use False"
    )
  if c.data.fit == "native":
    yield from native(c)
  if not read.encodes:
    return
  wrong = [*config_align.tower("vision", c.vision), *config_align.pictures(c)]
  yield from wrong
  if wrong:
    return
  grid = c.seen_size // c.vision.patch_size
  if read.fused and grid != c.grid:
    yield (
      f"vision.patch_size: {grid} x {grid} features of a picture have other places "
      f"than its {c.grid} x {c.grid} patches, and model.read={m.read!r} combines them "
      "one by one: change it, or data.patch_size"
    )
  if read.latents:
    yield from _latents(c)
  if read.fused and read.pictures and c.data.noise_limit:
    yield (
      f"data.noise_limit: {c.data.noise_limit} makes context images targets, too, and "
      "with model.read='fused' their patches hold features of what is to be found: use "
      "0"
    )
  if read.features:
    yield from _features(c, grid)


def _latents(c):
  """Problems of an encoder that sees the patches of a whole image."""
  m, v = c.model, c.vision
  if m.write != "diffusion" or m.image_mask == "causal":
    yield (
      "model.read: 'fused_latents' shows each patch its whole image, with model.write="
      f"{m.write!r} and model.image_mask={m.image_mask!r} also what is to be found: "
      "use 'diffusion', and 'bidirectional' or 'framed'"
    )
  if v.image_size or v.frames > 1:
    yield (
      f"vision.image_size, vision.frames: {v.image_size} and {v.frames} are of "
      "pixels, and with model.read='fused_latents' none are read: use 0 and 1"
    )


def _features(c, grid: int):
  """Problems of features that stand in a row; they are `grid` a side of a square."""
  m, read = c.model, READS[c.model.read]
  yield from _places(c, grid)
  factor = FACTORS.get(m.connector, 1)
  if grid % factor and not c.native:
    yield (
      f"model.connector: {m.connector!r} makes one of {factor} x {factor} features, "
      f"and data.image_size and vision.patch_size give {grid} a side: make that even"
    )
  if m.positions == "grid" and m.connector in ASKING:
    yield (
      "model.positions: 'grid' needs places, and the queries of model.connector="
      f"{m.connector!r} have none: use 'sequential' or 'shared'"
    )
  if m.connector == "qformer":
    yield from config_align.tower("text", c.text)
    yield from config_align.stack(c)
  if c.features + 4 > c.data.seq_len:
    yield (
      f"data.seq_len: {c.data.seq_len} cannot hold the {c.features} features of one "
      "image"
    )
  if c.data.images_per_row < read.written + read.features:
    yield (
      f"data.images_per_row: {c.data.images_per_row} cannot hold an image that is read "
      f"twice (model.read={m.read!r}): use 2 or more"
    )


def _places(c, grid: int):
  """Problems of vectors for places of features."""
  m, v = c.model, c.vision
  if m.feature_position == "none":
    return
  if m.connector not in ("linear", "mlp") or c.native:
    yield (
      f"model.feature_position: model.connector={m.connector!r} and data.fit="
      f"{c.data.fit!r} make positions that are no places of a square: use 'none'"
    )
  if m.width % 4:
    yield f"model.width: {m.width} must be a multiple of 4 for model.feature_position"
  if v.position_grid and grid > v.position_grid:
    yield (
      f"vision.position_grid: {v.position_grid} places a side have no vectors for the "
      f"{grid} features that a picture of {c.seen_size} pixels has"
    )


def native(c):
  """Problems of pictures that keep their own shape with what reads them."""
  v, read = c.vision, READS[c.model.read]
  if not read.features or read.written:
    yield (
      f"data.fit: 'native' pictures have no places for patches that are written, and "
      f"model.read={c.model.read!r} has such, or no encoder: use 'features'"
    )
  if c.model.connector in ASKING:
    yield (
      "data.fit: 'native' pictures are padded to one number of patches, which the "
      f"queries of model.connector={c.model.connector!r} would read: use another "
      "connector"
    )
  if v.image_size:
    yield (
      f"vision.image_size: {v.image_size} makes a square of every picture, and "
      "data.fit='native' keeps its shape: use 0"
    )
  if v.positions != "none" or v.pool == "class" or v.registers or v.rope_grid > 0:
    yield (
      "data.fit: with 'native' pictures have no grid of one size: use vision.positions="
      "'none', vision.pool='mean', vision.registers=0, and vision.rope_grid=-1 or 0"
    )
  least, most = c.data.native_pixels
  side = v.patch_size * FACTORS.get(c.model.connector, 1)
  if not 0 <= least <= most or most < side**2:
    yield (
      f"data.native_pixels: {c.data.native_pixels} must rise, and its second must hold "
      f"a position of {side} x {side} pixels"
    )
