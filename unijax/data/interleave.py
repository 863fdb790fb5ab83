"""From documents to rows: the one place that decides what a sequence looks like.

  plain   BOS text.. BOI [TIME] patch.. EOI text.. EOS
  turns   BOS USER text.. ASSISTANT BOI [TIME] patch.. EOI EOS USER ..

or, in the place of BOS, USER and ASSISTANT, what `data.chat` says; text that is given
and stands together, with such parts too, is then encoded as one. Parts `draw_X` stand
in the place of X where an image is drawn; `image_begin` and `image_end` around a
context image, `draw_image` before one that is drawn. With `data.pictures_first` the
pictures that a document shows before it says anything stand before all else of it.

A context image may be read through an encoder, by `model.read`:

  features   BOI feature.. EOI, or with data.image_frame "bare" feature.. alone
  both       BOI [TIME] patch.. EOI BOI feature.. EOI
  needed     as both where an image is drawn, as features where none is
  fused      BOI [TIME] patch.. EOI, each patch with the feature at its place
  fused_latents  BOI [TIME] patch.. EOI: the encoder reads these patches

With `data.image_tokens` an image that is written has tokens that nothing predicts: BOI
[open] (patch.. [line]).. [close] EOI.

A patch may be a code of `data.codec`, which is then the token of its position.
With `model.write` 'bridge' slots stand between BOI and an image: tokens like text,
which do not see the picture and are seen by all that follows. Where text is written in
blocks, what the model writes stands in blocks of `model.text_block` positions, filled
with padding before what it does not write (`data.text_blocks`).

With `model.image_mask` 'framed' BOI, EOI and `image_begin` are of the image's span.

With `data.clean_copy` training rows hold a target image twice where something comes
after it (`unijax.data.copies`): BOI, the noised one, which nothing outside of it sees,
then a clean one at the same rotary positions, EOI. Where BOI and EOI are of the image,
each copy has its own. Prompts hold images once.

Loss weights: text with `loss`, BOI and EOS outside the user's turn, patches of target
images. EOI is never predicted (the sampler appends it) and nothing is predicted from
the input BOI. TIME stands only where `model.time_injection` is 'token'; where it is
'boi', BOI carries the timestep and is of the image's span.
"""

import functools

from unijax.config import Config, Read
from unijax.data import copies, hashing
from unijax.data import without_text as without_text_lib
from unijax.data.document import (
  Document,
  Image,
  Text,
  Turn,
  dropped,
  leading,
  targets,
  unseen,
)
from unijax.data.given import Given
from unijax.data.image_rows import ImageRows
from unijax.data.layout import Layout
from unijax.data.tokenizer import Tokenizer, split_marked


class Interleaver(ImageRows):
  """Lays documents out as positions."""

  def __init__(self, config: Config, tokenizer: Tokenizer):
    super().__init__(config, tokenizer)
    self.tokenizer = tokenizer
    # Captions and answers come again and again, and encoding is slow next to the rest.
    self._encode = functools.lru_cache(1 << 16)(
      lambda text: tuple(tokenizer.encode(text))
    )
    self.caption_dropout = config.data.caption_dropout
    self.clean_copy = config.data.clean_copy
    self.pictures_first = config.data.pictures_first
    special = self.vocabulary.special
    own = {name: [getattr(special, name)] for name in ("user", "assistant")}
    # What stands around what is said: ids, and text where a format has it.
    self.around = {"begin": [special.bos], **own}
    chat, marks = config.data.chat, config.data.marks
    self.around |= {n: split_marked(tokenizer, x, marks) for n, x in chat}
    begin = Given(self._encode)
    begin.add(self.around.get("image_begin", []))
    self.image_begin = begin.take()
    drawn = {n.removeprefix("draw_"): x for n, x in self.around.items() if "draw_" in n}
    self.drawn = self.around | drawn
    begin.add(self.drawn.get("image", []))
    self.draw_image = begin.take()
    self.joins = bool(config.data.chat)
    self.without_text = config.data.without_text
    self.empty = without_text_lib.EMPTY.get(self.without_text)
    self.bare = self.without_text == "bare"

  def layout(
    self, document: Document, key: int = 0, *, open_end=False, without_text=None,
    draws=None, without_pictures=False, before="", thinks=False,
  ) -> Layout:  # fmt: skip
    """Lays one document out.

    Args:
      document: what to lay out.
      key: its place in the document stream; decides caption dropout and noise.
      open_end: leave the end open (no EOS), for a prompt that the model continues: no
        image is drawn there, so all are there once.
      without_text: keep the text (False), or not (True), as `data.without_text` says;
        None: not before the last target image in a share `data.caption_dropout` of the
        documents.
      draws: whether an image is drawn here; None: one that is a target.
      without_pictures: leave out those that are shown.
      before: what the user says in a turn before all else; kept without text, too.
      thinks: text is written here before the image that is drawn.

    Raises:
      DataError: an image of another size than `data.image_size`.
    """
    result, given, role = Layout(key=key), Given(self._encode), None
    draws = bool(targets(document.parts)) if draws is None else draws
    around, parts = self._around(draws, thinks), document.parts
    parts = unseen(parts) if without_pictures else parts
    read = self._read(draws)
    shown, parts = leading(parts) if self.pictures_first else ((), parts)
    begin = around["begin"] + ([] if draws else around.get("system", []))
    if before:
      given.add(begin)
      given.add(self._turn_before(around, before, document.parts))
    for image in shown:
      self._image(result, given, around, image, read)
    self._give_all(result, given)
    count = len(parts)
    given.add([] if before else begin)
    # How many parts, the first ones, lose their text.
    blank = self._captions(parts, key) if without_text is None else without_text * count
    if self.empty is None:
      parts, blank = dropped(parts, blank, self.bare), 0
    twice = copies.twice(parts) if self.clean_copy and not open_end else ()
    for i, part in enumerate(parts):
      if 0 < blank == i:
        self._give_all(result, given)
        self.empty(result, self.vocabulary)
      if isinstance(part, Text) and (role == "user" or not part.loss):
        given.add([part.text] if self.joins else self._encode(part.text))
      elif isinstance(part, Text):
        self._give_all(result, given)
        self.write(result, self._encode(part.text))
      elif isinstance(part, Image):
        begun = role != "user"
        weight = float(begun and i > 0)
        self._image(result, given, around, part, read, begun, weight, i in twice)
      elif isinstance(part, Turn):
        self._turn(result, given, around, role, part.role)
        role = part.role
    given.add(around.get("image", []) if open_end and draws else [])
    self._give_all(result, given)
    if blank == len(parts) > 0:
      self.empty(result, self.vocabulary)
    if not open_end:
      self.write(result, [self.vocabulary.special.eos], ends=True)
    if result.text_weight:
      result.text_weight[0] = 0.0  # nothing of this document stands before it
    return result

  def _around(self, draws: bool, thinks: bool) -> dict[str, list]:
    """What stands around what is said: a thought is text that is written."""
    if not draws:
      return self.around
    own = {"assistant": self.around["assistant"], "image": []} if thinks else {}
    return self.drawn | own

  def _turn_before(self, around, text: str, parts) -> list:
    """What the user says before all else, in a turn where the document has turns."""
    said = [text] if self.joins else self._encode(text)
    if not any(isinstance(p, Turn) for p in parts):
      return said
    return [*around["user"], *said, *around.get("user_end", [])]

  def _turn(self, x: Layout, given: Given, around, before: str | None, role: str):
    """From one role to the next, with what ends and begins them."""
    if before == "assistant":
      self._give_all(x, given)
      self.write(x, [self.vocabulary.special.eos])
    given.add(around.get(f"{before}_end", []))
    given.add(around[role])

  def _image(
    self, x: Layout, given: Given, around, image, read: Read, written=False, weight=0.0,
    twice=False,
  ):  # fmt: skip
    """`_add_image` behind all that was given, with what stands around it."""
    given.add([] if image.context else around.get("image", []))
    self._give_all(x, given)
    read = read if image.context else self.written
    self._add_image(x, image, read, written, weight, twice)
    given.add(around.get("image_end", []) if image.context else [])

  def _give_all(self, x: Layout, given: Given):
    ids = given.take()
    if ids:
      self.give(x, ids)

  def measure(self, document: Document, key: int = 0) -> tuple[int, int]:
    """Returns (positions, images) of `layout(document, key)` without laying it out.

    An image and its clean copy are two images, here and for `data.images_per_row`.

    Raises DataError as `layout` does.
    """
    hides = self.without_text == "hidden"
    if (
      self.text_block or self.joins or hides
    ):  # what stands beside a part decides its length
      x = self.layout(document, key)
      return len(x), len(x.images)
    positions, images, role = 2, 0, None  # BOS and EOS
    parts = document.parts
    if self.empty is None:
      parts = dropped(parts, self._captions(parts, key), self.bare)
    read_here = self._read(bool(targets(parts)))
    if self.clean_copy:
      images = len(copies.twice(parts))
      positions += images * (self.time_token + self.grid**2 + 2 * self.framed)
    for part in parts:
      if isinstance(part, Text):
        positions += len(self._encode(part.text))
      elif isinstance(part, Image):
        self._check(part)
        read = read_here if part.context else self.written
        images += read.written + read.features
        if read.written:
          positions += self.image_positions + 2  # BOI and EOI
        if read.features:
          positions += self.feature_count(part) + 2 * self.marked
      else:
        positions += 1 + (role == "assistant")  # with the end of what the model said
        role = part.role
    return positions, images

  def _captions(self, parts, key) -> int:
    """How many parts lose their text, for classifier-free guidance: those before the
    last target image, or none."""
    drawn = targets(parts)
    if not drawn or hashing.uniform("caption", key) >= self.caption_dropout:
      return 0
    return drawn[-1]
