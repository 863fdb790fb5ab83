"""Images in rows: from BOI to EOI, as often and in such ways as they are read."""

import dataclasses
import math

import numpy as np

from unijax.config import READS, Config, Read
from unijax.config_writes import IMAGE_PLACES
from unijax.data import text_blocks
from unijax.data.document import DataError, Image, check_shape, check_size
from unijax.data.layout import Layout
from unijax.data.tokenizer import Tokenizer, Vocabulary, vocabulary_of
from unijax.types import FEATURE_BEGIN


class ImageRows:
  """Appends images to layouts; see `interleave` for what stands where."""

  image_begin: list[int]  # ids before a context image

  def __init__(self, config: Config, tokenizer: Tokenizer):
    self.vocabulary: Vocabulary = vocabulary_of(config, tokenizer)
    self.noise_limit = config.data.noise_limit
    places = config.model.positions
    self.positions = "sequential" if places == "learned" else places
    self.read, self.written = config.read, READS["patches"]
    self.features = config.features
    self.slots, self.text_block = config.slots, config.text_block
    self.signal_weight = config.bridge.signal_weight
    self.time_token = config.model.time_injection == "token"
    self.time_boi = config.model.time_injection == "boi"
    self.feature_begin = config.model.feature_begin
    self.image_size, self.native = config.data.image_size, config.native
    self.vision_patch, self.unit = config.vision.patch_size, config.unit
    self.unit_pixels = config.unit_pixels
    self.encoded = config.encoded if config.read.encodes else 0
    self.grid, self.never = config.grid, config.write.never
    self.marked = config.data.image_frame == "marked"
    self.framed = config.framed
    self.image_positions = config.image_positions
    self.image_tokens = {name: config.image_tokens(name) for name in IMAGE_PLACES}
    for place, token in config.data.image_tokens:
      words = self.vocabulary
      if not 0 <= token < words.size or words.of_images(token):
        raise DataError(f"data.image_tokens: {place} is {token}, which is no token")

  def write(self, x: Layout, ids, weight: float = 1.0, ends: bool = False):
    """Appends tokens that the model writes; `ends`: nothing follows them directly."""
    pad = self.vocabulary.special.pad if ends else None
    text_blocks.write(x, ids, weight, self.text_block, pad)

  def give(self, x: Layout, ids):
    """Appends tokens that the model only reads."""
    text_blocks.close(x, self.text_block, self.vocabulary.special.pad)
    x.add_tokens(ids, 0.0)

  def _read(self, draws: bool) -> Read:
    """How context images are read where an image is drawn, or where none is."""
    needed = self.read.needed and not draws
    return dataclasses.replace(self.read, written=False) if needed else self.read

  def feature_grid(self, image: Image) -> tuple[int, int]:
    """Rows and columns of positions of a picture that keeps its shape."""
    return image.height // self.unit_pixels, image.width // self.unit_pixels

  def feature_count(self, image: Image) -> int:
    """Positions of what an encoder says of a picture."""
    return math.prod(self.feature_grid(image)) if self.native else self.features

  def _check(self, image: Image) -> None:
    """Raises DataError where a picture is not of a size that rows have."""
    if self.native and image.context:
      most = self.encoded * self.vision_patch**2
      check_shape(image, self.unit_pixels, most)
    else:
      check_size(image, self.image_size)

  def _add_image(
    self, x: Layout, image: Image, read: Read, written: bool, boi_weight: float,
    twice: bool,
  ):  # fmt: skip
    """Appends an image from its BOI to its EOI, as often as it is read.

    Args:
      read: in which ways that is.
      written: whether the model may write its BOI.
      boi_weight: loss weight of that.
      twice: a hidden noised copy stands before the clean one.
    """
    self._check(image)
    special = self.vocabulary.special
    limit = self.noise_limit if image.context else 1.0
    if read.written and self.never:
      raise DataError(
        f"{image.name}: with model.write='none' no image is written, and those that "
        "are read need model.read='features'"
      )
    first, fused = len(x), read.fused and read.pictures
    if image.context and self.image_begin:
      self.give(x, self.image_begin)
    if read.written:
      self._add_boi(x, written, boi_weight)
      if twice and self.framed:
        self.add_span(x, image, limit, 0.0, fused, hidden=True)
        x.next_position, limit, first = x.position[first][0], 0.0, len(x)
        self._add_boi(x, False, 0.0)
      elif twice:
        at = x.next_position
        self._add_patches(x, image, limit, fused, hidden=True)
        x.next_position, limit = at, 0.0
      weight = boi_weight * self.signal_weight
      self.add_span(x, image, limit, weight, fused, first)
      written, boi_weight = False, 0.0  # nobody chooses to read it again
      first = len(x)
    if read.features:
      if self.marked:
        self._add_boi(x, written, boi_weight)
        x.feature[-1] = FEATURE_BEGIN if self.feature_begin else -1
      else:
        self.give(x, [])  # what was being written ends here
      grid = self.feature_grid(image) if self.native else None
      about = self.feature_count(image), special.pad, self.positions, 0.0, 0.0
      x.add_image(image, *about, patches=False, features=True, grid=grid)
      x.add_tokens([special.eoi] if self.marked else [], 0.0)
      if self.framed:
        x.frame(first, self.positions)

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
    first: int | None = None,
    hidden: bool = False,
  ):
    """Appends an image after its BOI: slots and time token if any, patches, EOI.

    Args:
      image: a picture, its clean patches [P, C] or codes [P], or None: not yet drawn.
      limit: its largest timestep; an image that stays clean is not a target.
      slot_weight: loss weight of predicting each slot.
      fused: an encoder's features stand at its patches, too.
      first: where what frames it begins; None: at BOI.
      hidden: nothing outside of it sees it.
    """
    boi = len(x) - 1
    first = boi if first is None else first
    first_slot = self.vocabulary.first_slot
    x.add_tokens([first_slot + i for i in range(self.slots)], slot_weight)
    self._add_patches(x, image, limit, fused, hidden)
    if self.time_boi:
      x.span[boi], x.noise_limit[boi] = len(x.images) - 1, limit
    x.add_tokens([self.vocabulary.special.eoi], 0.0)
    if self.framed:
      x.frame(first, self.positions, hidden)

  def _add_patches(
    self, x: Layout, image, limit: float, fused: bool, hidden: bool = False
  ):
    """Appends the time token, if any, and the patches of an image."""
    special, count = self.vocabulary.special, self.grid**2
    number = len(x.images)
    if self.time_token:
      x.add_tokens([special.time], 0.0)
      x.span[-1], x.noise_limit[-1], x.hidden[-1] = number, limit, hidden
    weight, tokens = float(limit > 0), self.image_tokens
    x.add_tokens(list(tokens["open"]), 0.0)
    x.add_image(
      image, count, special.pad, self.positions, weight, limit, features=fused,
      hidden=hidden, line=tokens["line"],
    )  # fmt: skip
    x.add_tokens(list(tokens["close"]), 0.0)
