"""From documents to arrays: layouts packed into rows, with their pictures read."""

import dataclasses

import numpy as np
from PIL import Image as Picture

from unijax.codecs import identity, open_codec
from unijax.codecs.pixels import patchify, unpatchify
from unijax.config import Config
from unijax.data import copies, latents
from unijax.data.document import DataError, Image
from unijax.data.interleave import Interleaver
from unijax.data.layout import Layout
from unijax.data.tokenizer import Tokenizer
from unijax.types import FEATURE_BEGIN, IMAGES_OF_A_DOCUMENT, Batch


class RowBuilder(Interleaver):
  """Lays documents out as positions and fills rows of the config's length."""

  def __init__(self, config: Config, tokenizer: Tokenizer):
    super().__init__(config, tokenizer)
    self.seq_len, self.seen_size = config.data.seq_len, config.seen_size
    self.images_per_row, self.pictures = config.data.images_per_row, config.pictures
    self.picture_shape = config.picture_shape
    self.patch_size, self.channels = config.data.patch_size, config.patch_channels
    self.codec, self.codec_name = open_codec(config.data.codec), config.data.codec
    self.codec_identity = identity(config.data.codec)
    # Where the patches of an image are, from its first.
    place = np.arange(config.patches)
    self.spread = place + place // config.grid * len(config.image_tokens("line"))

  def row(self, layouts: list[Layout]) -> Batch:
    """Packs layouts into one row: a Batch of unbatched arrays, pixels read.

    Raises:
      DataError: the documents do not fit, or an image cannot be read.
    """
    total = sum(len(x) for x in layouts)
    if total > self.seq_len:
      raise DataError(
        f"{len(layouts)} document(s) of {total} positions do not fit a row of "
        f"data.seq_len={self.seq_len}: raise it, or shorten the documents"
      )
    images = sum(len(x.images) for x in layouts)
    if images > self.images_per_row:
      raise DataError(
        f"a row holds {images} images, more than data.images_per_row="
        f"{self.images_per_row}: raise it"
      )
    row = self._empty(self.seq_len, self.pictures, self.clean_copy)
    start, spans, pictures, blocks = 0, 0, 0, 0
    for number, x in enumerate(layouts, start=1):
      self._place(row, x, start, spans, blocks, number)
      pictures += self._show(row, x, start, pictures)
      start += len(x)
      spans += len(x.images)
      blocks += x.blocks
    return row

  def chunk(self, layout: Layout | None, length: int, features=None) -> Batch:
    """Returns one layout (None: nothing) as a row of another length, for prefill.

    It has at most one image that an encoder reads, of at most so many `features` where
    pictures keep their shape; None: the most that there are.
    """
    row = self._empty(length, min(self.pictures, 1), features=features)
    if layout is not None:
      self._place(row, layout, 0, 0, 0, 1)
      self._show(row, layout, 0, 0)
    return row

  def _empty(
    self, length: int, pictures: int, hides: bool = False, features: int | None = None
  ) -> Batch:
    pad, shape = self.vocabulary.special.pad, (pictures, *self.picture_shape)
    if features is not None:
      shape = pictures, features * self.unit**2, *self.picture_shape[1:]
    return empty_row(length, self.channels, pad, shape, self.native, hides)

  def _show(self, row: Batch, x: Layout, start: int, first: int) -> int:
    """Fills in the pictures that an encoder reads, from number `first`: their count."""
    seen = [(at, image) for at, image in x.images if x.feature[at] >= 0]
    for number, (at, image) in enumerate(seen, first):
      pixels, count = image.pixels(), self.features
      if self.native:
        rows, columns = self.feature_grid(image)
        row.grid_BI2[number] = rows * self.unit, columns * self.unit
        pixels, count = cut(pixels, self.vision_patch, self.unit), rows * columns
        row.pixels_BIHWC[number, : len(pixels)] = pixels
      else:
        row.pixels_BIHWC[number] = resized(pixels, self.seen_size)
      here = slice(start + at, start + at + count)
      row.feature_BT[here] = number * self.features + np.arange(count)
    return len(seen)

  def _place(
    self, row: Batch, x: Layout, start: int, spans: int, blocks: int, number: int
  ):
    here = slice(start, start + len(x))
    span = np.asarray(x.span, np.int32)
    row.tokens_BT[here] = x.tokens
    shift = np.where(span < -1, -blocks, 0)
    row.span_BT[here] = span + np.where(span >= 0, spans, shift)
    row.patch_BT[here] = x.patch
    if row.feature_BT is not None:  # numbers of features are of the row: `_show`
      feature = np.asarray(x.feature)
      row.feature_BT[here] = np.where(feature == FEATURE_BEGIN, FEATURE_BEGIN, -1)
    row.segment_BT[here] = number
    row.position_BTA[here] = x.position
    row.text_weight_BT[here] = x.text_weight
    row.image_weight_BT[here] = x.image_weight
    row.noise_limit_BT[here] = x.noise_limit
    image = copies.image_numbers(span, np.asarray(x.hidden, bool))
    keys = x.key * IMAGES_OF_A_DOCUMENT + np.maximum(image, 0).astype(np.int64)
    row.image_key_BT[here] = np.where(span == -1, 0, keys % 2**32)
    if row.hidden_BT is not None:
      row.hidden_BT[here] = x.hidden
    read = self.codes if self.vocabulary.codes else self.patches
    last = value = None
    for offset, image in x.images:
      first = start + offset
      if x.patch[offset] < 0:
        continue
      if image is not last:  # a clean copy is that of the image before it
        last, value = image, read(image)
      there = first + self.spread
      if self.vocabulary.codes:
        row.tokens_BT[there] = self.vocabulary.code_ids.of(value)
      else:
        row.patches_BTC[there] = value

  def patches(self, image: Image | np.ndarray) -> np.ndarray:
    """Returns float32 [P, C]: a picture's clean patches, or patches as they are."""
    if isinstance(image, np.ndarray):
      return image
    found = latents.latents(image, self.codec, self.codec_identity)
    return patchify(found, self.patch_size)

  def codes(self, image: Image | np.ndarray) -> np.ndarray:
    """Returns int32 [P]: a picture's codes in raster order, or codes as they are.

    Raises:
      DataError: a code outside of the codebook.
    """
    drawn = isinstance(image, np.ndarray)
    codes = image
    if not drawn:
      codes = latents.codes(image, self.codec, self.codec_identity).reshape(-1)
    if codes.min() < 0 or codes.max() >= self.vocabulary.codes:
      raise DataError(
        f"{'a drawing' if drawn else image.name}: codes from {codes.min()} to "
        f"{codes.max()}, but data.codec={self.codec_name!r} has "
        f"{self.vocabulary.codes}: the codes and the codec do not belong together"
      )
    return codes

  def pixels(self, image: np.ndarray) -> np.ndarray:
    """Returns uint8 [h, w, 3] of patches [P, C] or codes [P]: what a model drew."""
    if self.vocabulary.codes:
      return self.codec.from_codes(image.reshape(self.grid, self.grid))
    return self.codec.decode(unpatchify(image, self.patch_size, self.grid))


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
  """uint8 [size, size, 3] of a square picture of any size."""
  if pixels.shape[0] == size:
    return pixels
  shape = (size, size)
  return np.asarray(Picture.fromarray(pixels).resize(shape, Picture.Resampling.BICUBIC))


def cut(pixels: np.ndarray, size: int, unit: int) -> np.ndarray:
  """Patches [P, size^2, 3] of [h, w, 3], those of squares of `unit` a side together."""
  height, width, channels = pixels.shape
  rows, columns = height // size // unit, width // size // unit
  x = pixels.reshape(rows, unit, size, columns, unit, size, channels)
  return x.transpose(0, 3, 1, 4, 2, 5, 6).reshape(-1, size**2, channels)


def empty_row(
  length: int, channels: int, pad: int, pictures: tuple[int, ...] = (0,),
  native: bool = False, hides: bool = False,
) -> Batch:  # fmt: skip
  """Returns a row of padding as unbatched numpy arrays.

  Args:
    length: positions.
    channels: of a patch.
    pad: token.
    pictures: places for pictures that an encoder reads, 0 without one; their shape.
    native: whether each has a grid of its own.
    hides: whether rows say what is hidden in them.
  """

  def zeros(dtype, *shape):
    return np.zeros((length, *shape), dtype)

  return Batch(
    tokens_BT=np.full(length, pad, np.int32),
    patches_BTC=zeros(np.float32, channels),
    span_BT=np.full(length, -1, np.int32),
    patch_BT=np.full(length, -1, np.int32),
    segment_BT=zeros(np.int32),
    position_BTA=zeros(np.int32, 3),
    text_weight_BT=zeros(np.float32),
    image_weight_BT=zeros(np.float32),
    noise_limit_BT=zeros(np.float32),
    image_key_BT=zeros(np.uint32),
    pixels_BIHWC=np.zeros(pictures, np.uint8) if pictures[0] else None,
    feature_BT=np.full(length, -1, np.int32) if pictures[0] else None,
    grid_BI2=np.zeros((pictures[0], 2), np.int32) if native and pictures[0] else None,
    hidden_BT=zeros(bool) if hides else None,
  )


def stack(rows: list[Batch]) -> Batch:
  """Stacks unbatched rows into a Batch with a leading B axis."""
  names = [f.name for f in dataclasses.fields(Batch)]
  used = [name for name in names if getattr(rows[0], name) is not None]
  return Batch(**{name: np.stack([getattr(r, name) for r in rows]) for name in used})
