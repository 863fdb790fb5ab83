"""From documents to rows: the one place that decides what a sequence looks like.

  plain   BOS text.. BOI [TIME] patch.. EOI text.. EOS
  turns   BOS USER text.. ASSISTANT BOI [TIME] patch.. EOI EOS USER ..

A patch may be a code of `data.codec`, which is then the token of its position.
With `model.write` 'bridge' slots stand between BOI and an image: tokens like text,
which do not see the picture and are seen by all that follows. Where text is written in
blocks, what the model writes stands in blocks of `model.text_block` positions, filled
with padding before what it does not write (`data.text_blocks`).

Loss weights: text with `loss`, BOI and EOS outside the user's turn, patches of target
images. EOI is never predicted (the sampler appends it) and nothing is predicted from
the input BOI. TIME stands only where `model.time_injection` is 'token'.
"""

import dataclasses
import functools

import numpy as np

from unijax.codecs import identity, open_codec
from unijax.codecs.pixels import patchify, unpatchify
from unijax.config import Config
from unijax.data import hashing, latents, text_blocks
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.tokenizer import Tokenizer, Vocabulary, vocabulary_of
from unijax.types import Batch

IMAGES_OF_A_DOCUMENT = 64  # image keys set aside for each document of the stream


@dataclasses.dataclass
class Layout:
  """One document as positions, before its pixels are read. Lists of equal length."""

  tokens: list[int] = dataclasses.field(default_factory=list)
  span: list[int] = dataclasses.field(default_factory=list)
  patch: list[int] = dataclasses.field(default_factory=list)
  text_weight: list[float] = dataclasses.field(default_factory=list)
  image_weight: list[float] = dataclasses.field(default_factory=list)
  noise_limit: list[float] = dataclasses.field(default_factory=list)
  position: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
  # (offset of the first patch, picture or its clean patches [P, C] or codes [P])
  images: list[tuple[int, Image | np.ndarray]] = dataclasses.field(default_factory=list)
  next_position: int = 0
  key: int = 0  # position in the document stream; keys the noise of its images
  blocks: int = 0  # of text
  left: int = 0  # positions that are free in the last of them

  def __len__(self):
    return len(self.tokens)

  def add_tokens(self, ids, weight: float):
    """Appends discrete tokens, all with one loss weight."""
    n, start = len(ids), self.next_position
    self.tokens += ids
    self.span += [-1] * n
    self.patch += [-1] * n
    self.text_weight += [weight] * n
    self.image_weight += [0.0] * n
    self.noise_limit += [0.0] * n
    self.position += [(p, p, p) for p in range(start, start + n)]
    self.next_position += n

  def part(self, start: int, stop: int) -> "Layout":
    """Returns positions [start, stop) as a layout whose images are numbered from 0.

    The cut must not go through an image.
    """
    lists = {
      f.name: getattr(self, f.name)[start:stop]
      for f in dataclasses.fields(self)
      if isinstance(getattr(self, f.name), list) and f.name != "images"
    }
    images = [(at - start, x) for at, x in self.images if start <= at < stop]
    first = min((n for n in lists["span"] if n >= 0), default=0)
    lists["span"] = [n - first if n >= 0 else n for n in lists["span"]]
    return Layout(
      **lists, images=images, next_position=self.next_position, key=self.key
    )


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
    self.positions = config.model.positions
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
      open_end: leave the end open (no EOS), for a prompt that the model continues.
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
    for i, part in enumerate(parts):
      if isinstance(part, Text):
        written = part.loss and role != "user"
        add = self.write if written else self.give
        add(result, self._encode(part.text))
      elif isinstance(part, Image):
        self._add_image(result, part, role != "user", float(role != "user" and i > 0))
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

    Raises DataError as `layout` does.
    """
    if self.text_block:  # where blocks end depends on what stands beside them
      x = self.layout(document, key)
      return len(x), len(x.images)
    positions, images, role = 2, 0, None  # BOS and EOS
    for part in self._drop_caption(document.parts, key):
      if isinstance(part, Text):
        positions += len(self._encode(part.text))
      elif isinstance(part, Image):
        check_size(part, self.image_size)
        images += 1
        positions += self.slots + self.time_token + self.grid**2 + 2  # BOI and EOI
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
    row = empty_row(self.seq_len, self.channels, self.vocabulary.special.pad)
    start, spans, blocks = 0, 0, 0
    for number, x in enumerate(layouts, start=1):
      self._place(row, x, start, spans, blocks, number)
      start += len(x)
      spans += len(x.images)
      blocks += x.blocks
    return row

  def chunk(self, layout: Layout | None, length: int) -> Batch:
    """Returns one layout (None: nothing) as a row of another length, for prefill."""
    row = empty_row(length, self.channels, self.vocabulary.special.pad)
    if layout is not None:
      self._place(row, layout, 0, 0, 0, 1)
    return row

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
    keys = x.key * IMAGES_OF_A_DOCUMENT + np.maximum(span, 0).astype(np.int64)
    row.image_key_BT[here] = np.where(span == -1, 0, keys % 2**32)
    for offset, image in x.images:
      first = start + offset
      if self.vocabulary.codes:
        codes = self.codes(image)
        row.tokens_BT[first : first + len(codes)] = self.vocabulary.first_code + codes
      else:
        patches = self.patches(image)
        row.patches_BTC[first : first + len(patches)] = patches

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

  def _add_image(self, x: Layout, image: Image, written: bool, boi_weight: float):
    check_size(image, self.image_size)
    if written:
      self.write(x, [self.vocabulary.special.boi], boi_weight, ends=True)
    else:
      self.give(x, [self.vocabulary.special.boi])
    limit = self.noise_limit if image.context else 1.0
    self.add_span(x, image, limit, boi_weight * self.signal_weight)

  def add_span(
    self,
    x: Layout,
    image: Image | np.ndarray | None,
    limit: float,
    slot_weight: float = 0.0,
  ):
    """Appends an image after its BOI: slots and time token if any, patches, EOI.

    Args:
      image: a picture, its clean patches [P, C] or codes [P], or None: not yet drawn.
      limit: its largest timestep; an image that stays clean is not a target.
      slot_weight: loss weight of predicting each slot.
    """
    special, count = self.vocabulary.special, self.grid**2
    number = len(x.images)
    first_slot = self.vocabulary.first_slot
    x.add_tokens([first_slot + i for i in range(self.slots)], slot_weight)
    if self.time_token:
      x.add_tokens([special.time], 0.0)
      x.span[-1], x.noise_limit[-1] = number, limit
    x.images.append((len(x), image))
    x.tokens += [special.pad] * count
    x.span += [number] * count
    x.patch += range(count)
    x.text_weight += [0.0] * count
    x.image_weight += [float(limit > 0)] * count
    x.noise_limit += [limit] * count
    first, side = x.next_position, self.grid
    if self.positions == "sequential":
      x.position += [(first + i,) * 3 for i in range(count)]
      x.next_position += count
    elif self.positions == "shared":
      x.position += [(first,) * 3] * count
      x.next_position += 1
    else:
      x.position += [
        (first, first + r, first + c) for r in range(side) for c in range(side)
      ]
      x.next_position += side
    x.add_tokens([special.eoi], 0.0)


def check_size(image: Image, size: int) -> None:
  """Raises DataError where a picture is not of `data.image_size`."""
  if (image.height, image.width) != (size, size):
    raise DataError(
      f"{image.name}: {image.height}x{image.width} px, but data.image_size is "
      f"{size}: set the source's image_size to it"
    )


def empty_row(length: int, channels: int, pad: int) -> Batch:
  """Returns a row of padding as unbatched numpy arrays."""

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
  )


def stack(rows: list[Batch]) -> Batch:
  """Stacks unbatched rows into a Batch with a leading B axis."""
  fields = [f.name for f in dataclasses.fields(Batch)]
  return Batch(**{f: np.stack([getattr(r, f) for r in rows]) for f in fields})
