"""From documents to rows: the one place that decides what a sequence looks like.

  plain   BOS text.. BOI [TIME] patch.. EOI text.. EOS
  turns   BOS USER text.. ASSISTANT BOI [TIME] patch.. EOI EOS USER ..

A context image may be read through an encoder, by `model.read`:

  features   BOI feature.. EOI
  both       BOI [TIME] patch.. EOI BOI feature.. EOI
  fused      BOI [TIME] patch.. EOI, each patch with the feature at its place

A patch may be a code of `data.codec`, which is then the token of its position.
With `model.write` 'bridge' slots stand between BOI and an image: tokens like text,
which do not see the picture and are seen by all that follows. Where text is written in
blocks, what the model writes stands in blocks of `model.text_block` positions, filled
with padding before what it does not write (`data.text_blocks`).

With `data.clean_copy` training rows hold a target image twice where something comes
after it (`unijax.data.copies`): BOI, the noised one, which nothing outside of it sees,
then a clean one at the same rotary positions, EOI. Prompts hold images once.

Loss weights: text with `loss`, BOI and EOS outside the user's turn, patches of target
images. EOI is never predicted (the sampler appends it) and nothing is predicted from
the input BOI. TIME stands only where `model.time_injection` is 'token'.
"""

import dataclasses
import functools

import numpy as np

from unijax.codecs import identity, open_codec
from unijax.codecs.pixels import patchify, unpatchify
from unijax.config import READS, Config
from unijax.data import copies, hashing, latents, text_blocks
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.layout import Layout
from unijax.data.tokenizer import Tokenizer, Vocabulary, vocabulary_of
from unijax.types import Batch

IMAGES_OF_A_DOCUMENT = 64  # image keys set aside for each document of the stream


class RowBuilder:
  """Lays documents out as positions and fills rows of the config's length."""

  def __init__(self, config: Config, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    # Captions and answers come again and again, and encoding is slow next to the rest.
    self._encode = functools.lru_cache(1 << 16)(
      lambda text: tuple(tokenizer.encode(text))
    )
    self.vocabulary: Vocabulary = vocabulary_of(config, tokenizer)
    self.seq_len = config.data.seq_len
    self.images_per_row = config.data.images_per_row
    self.patch_size = config.data.patch_size
    self.channels = config.patch_channels
    self.noise_limit = config.data.noise_limit
    self.caption_dropout = config.data.caption_dropout
    self.clean_copy = config.data.clean_copy
    self.positions = config.model.positions
    self.read, self.written = config.read, READS["patches"]
    self.features, self.pictures = config.features, config.pictures
    self.slots, self.text_block = config.slots, config.text_block
    self.signal_weight = config.bridge.signal_weight
    self.time_token = config.model.time_injection == "token"
    self.codec, self.codec_name = open_codec(config.data.codec), config.data.codec
    self.codec_identity = identity(config.data.codec)
    self.image_size = config.data.image_size
    self.grid = config.grid

  def layout(
    self, document: Document, key: int = 0, *, open_end=False, without_text=None
  ) -> Layout:
    """Lays one document out.

    Args:
      document: what to lay out.
      key: its place in the document stream; decides caption dropout and noise.
      open_end: leave the end open (no EOS), for a prompt that the model continues: no
        image is drawn there, so all are there once.
      without_text: keep (False) or drop (True) the text; None drops the text before
        the last target image in a share `data.caption_dropout` of the documents.

    Raises:
      DataError: an image of another size than `data.image_size`.
    """
    special = self.vocabulary.special
    result = Layout(key=key)
    result.add_tokens([special.bos], 0.0)
    role = None
    parts = document.parts
    if without_text is None:
      parts = self._drop_caption(parts, key)
    elif without_text:
      parts = tuple(p for p in parts if not isinstance(p, Text))
    twice = copies.twice(parts) if self.clean_copy and not open_end else ()
    for i, part in enumerate(parts):
      if isinstance(part, Text):
        written = part.loss and role != "user"
        add = self.write if written else self.give
        add(result, self._encode(part.text))
      elif isinstance(part, Image):
        begun = role != "user"
        self._add_image(result, part, begun, float(begun and i > 0), i in twice)
      elif isinstance(part, Turn):
        if role == "assistant":
          self.write(result, [special.eos])
        role = part.role
        self.give(result, [getattr(special, role)])
    if not open_end:
      self.write(result, [special.eos], ends=True)
    return result

  def write(self, x: Layout, ids, weight: float = 1.0, ends: bool = False):
    """Appends tokens that the model writes; `ends`: nothing follows them directly."""
    pad = self.vocabulary.special.pad if ends else None
    text_blocks.write(x, ids, weight, self.text_block, pad)

  def give(self, x: Layout, ids):
    """Appends tokens that the model only reads."""
    text_blocks.close(x, self.text_block, self.vocabulary.special.pad)
    x.add_tokens(ids, 0.0)

  def measure(self, document: Document, key: int = 0) -> tuple[int, int]:
    """Returns (positions, images) of `layout(document, key)` without laying it out.

    An image and its clean copy are two images, here and for `data.images_per_row`.

    Raises DataError as `layout` does.
    """
    if self.text_block:  # where blocks end depends on what stands beside them
      x = self.layout(document, key)
      return len(x), len(x.images)
    positions, images, role = 2, 0, None  # BOS and EOS
    parts = self._drop_caption(document.parts, key)
    if self.clean_copy:
      images = len(copies.twice(parts))
      positions += images * (self.time_token + self.grid**2)
    for part in parts:
      if isinstance(part, Text):
        positions += len(self._encode(part.text))
      elif isinstance(part, Image):
        check_size(part, self.image_size)
        read = self.read if part.context else self.written
        images += read.written + read.features
        if read.written:
          positions += self.slots + self.time_token + self.grid**2 + 2  # BOI and EOI
        if read.features:
          positions += self.features + 2
      else:
        positions += 1 + (role == "assistant")  # the end of what the model said
        role = part.role
    return positions, images

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

  def chunk(self, layout: Layout | None, length: int) -> Batch:
    """Returns one layout (None: nothing) as a row of another length, for prefill.

    It has at most one image that an encoder reads.
    """
    row = self._empty(length, min(self.pictures, 1))
    if layout is not None:
      self._place(row, layout, 0, 0, 0, 1)
      self._show(row, layout, 0, 0)
    return row

  def _empty(self, length: int, pictures: int, hides: bool = False) -> Batch:
    pad = self.vocabulary.special.pad
    return empty_row(length, self.channels, pad, pictures, self.image_size, hides)

  def _show(self, row: Batch, x: Layout, start: int, first: int) -> int:
    """Fills in the pictures that an encoder reads, from number `first`: their count."""
    seen = [(at, image) for at, image in x.images if x.feature[at] >= 0]
    for number, (at, image) in enumerate(seen, first):
      row.pixels_BIHWC[number] = image.pixels()
      here = slice(start + at, start + at + self.features)
      row.feature_BT[here] = number * self.features + np.arange(self.features)
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
      there = slice(first, first + len(value))
      if self.vocabulary.codes:
        row.tokens_BT[there] = self.vocabulary.first_code + value
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

  def _drop_caption(self, parts, key):
    """Removes all text before the last target image, for classifier-free guidance."""
    targets = [i for i, p in enumerate(parts) if isinstance(p, Image) and not p.context]
    if not targets or hashing.uniform("caption", key) >= self.caption_dropout:
      return parts
    return tuple(
      p for i, p in enumerate(parts) if not (isinstance(p, Text) and i < targets[-1])
    )

  def _add_image(
    self, x: Layout, image: Image, written: bool, boi_weight: float, twice: bool
  ):
    """Appends an image from its BOI to its EOI, as often as it is read.

    Args:
      written: whether the model may write its BOI.
      boi_weight: loss weight of that.
      twice: a hidden noised copy stands before the clean one.
    """
    check_size(image, self.image_size)
    special, read = self.vocabulary.special, self.written
    limit = 1.0
    if image.context:
      read, limit = self.read, self.noise_limit
    if read.written:
      self._add_boi(x, written, boi_weight)
      if twice:
        at = x.next_position
        self._add_patches(x, image, limit, read.fused, hidden=True)
        x.next_position, limit = at, 0.0
      weight = boi_weight * self.signal_weight
      self.add_span(x, image, limit, weight, read.fused)
      written, boi_weight = False, 0.0  # nobody chooses to read it again
    if read.features:
      self._add_boi(x, written, boi_weight)
      count = self.features
      x.add_image(image, count, special.pad, self.positions, 0.0, 0.0, False, True)
      x.add_tokens([special.eoi], 0.0)

  def _add_boi(self, x: Layout, written: bool, weight: float):
    if written:
      self.write(x, [self.vocabulary.special.boi], weight, ends=True)
    else:
      self.give(x, [self.vocabulary.special.boi])

  def add_span(
    self,
    x: Layout,
    image: Image | np.ndarray | None,
    limit: float,
    slot_weight: float = 0.0,
    fused: bool = False,
  ):
    """Appends an image after its BOI: slots and time token if any, patches, EOI.

    Args:
      image: a picture, its clean patches [P, C] or codes [P], or None: not yet drawn.
      limit: its largest timestep; an image that stays clean is not a target.
      slot_weight: loss weight of predicting each slot.
      fused: an encoder's features stand at its patches, too.
    """
    first_slot = self.vocabulary.first_slot
    x.add_tokens([first_slot + i for i in range(self.slots)], slot_weight)
    self._add_patches(x, image, limit, fused)
    x.add_tokens([self.vocabulary.special.eoi], 0.0)

  def _add_patches(
    self, x: Layout, image, limit: float, fused: bool, hidden: bool = False
  ):
    """Appends the time token, if any, and the patches of an image."""
    special, count = self.vocabulary.special, self.grid**2
    number = len(x.images)
    if self.time_token:
      x.add_tokens([special.time], 0.0)
      x.span[-1], x.noise_limit[-1], x.hidden[-1] = number, limit, hidden
    weight = float(limit > 0)
    x.add_image(
      image, count, special.pad, self.positions, weight, limit, features=fused,
      hidden=hidden,
    )  # fmt: skip


def check_size(image: Image, size: int) -> None:
  """Raises DataError where a picture is not of `data.image_size`."""
  if (image.height, image.width) != (size, size):
    raise DataError(
      f"{image.name}: {image.height}x{image.width} px, but data.image_size is "
      f"{size}: set the source's image_size to it"
    )


def empty_row(
  length: int, channels: int, pad: int, pictures: int = 0, size: int = 0,
  hides: bool = False,
) -> Batch:  # fmt: skip
  """Returns a row of padding as unbatched numpy arrays.

  Args:
    length: positions.
    channels: of a patch.
    pad: token.
    pictures: places for pictures that an encoder reads; 0 without one.
    size: pixels a side of these.
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
    pixels_BIHWC=np.zeros((pictures, size, size, 3), np.uint8) if pictures else None,
    feature_BT=np.full(length, -1, np.int32) if pictures else None,
    hidden_BT=zeros(bool) if hides else None,
  )


def stack(rows: list[Batch]) -> Batch:
  """Stacks unbatched rows into a Batch with a leading B axis."""
  names = [f.name for f in dataclasses.fields(Batch)]
  used = [name for name in names if getattr(rows[0], name) is not None]
  return Batch(**{name: np.stack([getattr(r, name) for r in rows]) for name in used})
