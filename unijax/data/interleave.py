"""From documents to rows: the one place that decides what a sequence looks like.

  plain   BOS text.. BOI [TIME] patch.. EOI text.. EOS
  turns   BOS USER text.. ASSISTANT BOI [TIME] patch.. EOI EOS USER ..

or, in the place of BOS, USER and ASSISTANT, what `data.chat` says.

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

import functools

import numpy as np

from unijax.config import READS, Config
from unijax.data import copies, hashing, text_blocks
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.layout import Layout
from unijax.data.tokenizer import (
  Tokenizer,
  Vocabulary,
  encode_marked,
  vocabulary_of,
)


class Interleaver:
  """Lays documents out as positions."""

  def __init__(self, config: Config, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    # Captions and answers come again and again, and encoding is slow next to the rest.
    self._encode = functools.lru_cache(1 << 16)(
      lambda text: tuple(tokenizer.encode(text))
    )
    self.vocabulary: Vocabulary = vocabulary_of(config, tokenizer)
    self.noise_limit = config.data.noise_limit
    self.caption_dropout = config.data.caption_dropout
    self.clean_copy = config.data.clean_copy
    self.positions = config.model.positions
    self.read, self.written = config.read, READS["patches"]
    self.features = config.features
    self.slots, self.text_block = config.slots, config.text_block
    self.signal_weight = config.bridge.signal_weight
    self.time_token = config.model.time_injection == "token"
    self.image_size = config.data.image_size
    self.grid, self.never = config.grid, config.write.never
    self._read_chat(dict(config.data.chat))

  def _read_chat(self, chat: dict[str, str]):
    """Finds the ids that begin a document, and those before and after turns."""
    special = self.vocabulary.special
    ids = {name: encode_marked(self.tokenizer, text) for name, text in chat.items()}
    self.begin = ids.get("begin", [special.bos])
    self.before = {r: ids.get(r, [getattr(special, r)]) for r in ("user", "assistant")}
    self.after = {r: ids.get(f"{r}_end", []) for r in self.before}

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
    result.add_tokens(self.begin, 0.0)
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
        end, role = self.after.get(role, []), part.role
        self.give(result, [*end, *self.before[role]])
    if not open_end:
      self.write(result, [special.eos], ends=True)
    if not self.begin and result.text_weight:
      result.text_weight[0] = 0.0  # nothing of this document stands before it
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
    positions, images, role = len(self.begin) + 1, 0, None  # with EOS
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
        positions += len(self.before[part.role]) + len(self.after.get(role, []))
        positions += role == "assistant"  # the end of what the model said
        role = part.role
    return positions, images

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
    if read.written and self.never:
      raise DataError(
        f"{image.name}: with model.write='none' no image is written, and those that "
        "are read need model.read='features'"
      )
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
