"""Captioned pictures, one a row: batches for models that only draw.

Item n is document n of the mixture: the text before its last picture that is a target.
Batch t is items [t B, (t + 1) B); nothing is packed, so there is no plan.
"""

import os

import numpy as np

from unijax.config import Config
from unijax.data import hashing
from unijax.data.ahead import Ahead
from unijax.data.document import DataError, Document, Image, Text
from unijax.data.loader import part_of_batch
from unijax.data.rows import IMAGES_OF_A_DOCUMENT, RowBuilder
from unijax.data.sources import make_sources
from unijax.data.stream import DocumentStream
from unijax.data.tokenizer import make_tokenizer
from unijax.types import Drawings

VERSION = 1  # raise it with any change that alters batches


class Captions:
  """Turns captions into tokens of one length.

  Args:
    builder: carries the tokenizer.
    length: of every row, BOS included.
  """

  def __init__(self, builder: RowBuilder, length: int):
    self.builder, self.length = builder, length

  def tokens(self, caption: str, name: str) -> np.ndarray:
    """Returns int32 ids, BOS first, without padding.

    Raises:
      DataError: longer than `length`.
    """
    special = self.builder.vocabulary.special
    ids = [special.bos, *self.builder.tokenizer.encode(caption)]
    if len(ids) > self.length:
      raise DataError(
        f"{name}: a caption of {len(ids)} tokens, more than "
        f"data.caption_length={self.length}: raise it, or shorten the caption"
      )
    return np.asarray(ids, np.int32)

  def stack(self, captions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (int32 tokens [B, length] with padding, int32 lengths [B])."""
    pad = self.builder.vocabulary.special.pad
    tokens = np.full((len(captions), self.length), pad, np.int32)
    for row, ids in zip(tokens, captions, strict=True):
      row[: len(ids)] = ids
    return tokens, np.asarray([len(ids) for ids in captions], np.int32)


class DrawingLoader:
  """Batches of Drawings from any step on.

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: unused; nothing has to be planned.

  Attributes:
    builder: carries the tokenizer and the codec.
    plan_hash: decides all items and their order.

  Raises:
    DataError: of a source, of a document that draws nothing, or of a long caption.
  """

  def __init__(
    self,
    config: Config,
    *,
    held_out: bool = False,
    folder: str | os.PathLike | None = None,
  ):
    del folder
    self.config = config
    self.builder = RowBuilder(config, make_tokenizer(config.data.tokenizer))
    self.captions = Captions(self.builder, config.data.caption_length)
    sources = [(s, w) for s, w in make_sources(config, held_out=held_out) if w > 0]
    self.stream = DocumentStream(sources, config.seed)
    self.plan_hash = hashing.stable_hash(
      [
        "drawings", VERSION, config.seed, config.data.caption_length,
        config.data.caption_dropout, self.builder.tokenizer.signature,
        self.builder.grid, [[s.signature, len(s), w] for s, w in sources],
      ],
      digits=32,
    )  # fmt: skip

  @property
  def vocab(self) -> int:
    """Ids that a token table must hold."""
    return self.builder.vocabulary.size

  def batch(self, step: int, part: tuple[int, int] | range | None = None) -> Drawings:
    """Returns batch `step`, or a part of it as in `data.loader.Loader.iterate`."""
    size = self.config.train.batch_size
    numbers = [step * size + i for i in part_of_batch(size, part)]
    pairs = [self._pair(n) for n in numbers]
    tokens, length = self.captions.stack([ids for ids, _ in pairs])
    patches = np.stack([self.builder.patches(image) for _, image in pairs])
    # As in packed rows: the first picture of the document with this number.
    key = np.asarray(numbers, np.int64) * IMAGES_OF_A_DOCUMENT % 2**32
    return Drawings(tokens, length, patches, key.astype(np.uint32))

  def padding(self, step: int) -> float:
    """Returns the share of caption positions of a batch that are empty."""
    size = self.config.train.batch_size
    length = [len(self._pair(step * size + i)[0]) for i in range(size)]
    return 1.0 - float(np.mean(length)) / self.captions.length

  def _pair(self, number: int) -> tuple[np.ndarray, Image]:
    document, source = self.stream[number]
    name = f"source {source!r}: document {document.id} ({document.kind})"
    caption, image = captioned(document, name)
    dropout = self.config.data.caption_dropout
    if hashing.uniform("caption", number) < dropout:
      caption = ""
    size = self.builder.image_size
    if (image.height, image.width) != (size, size):
      raise DataError(
        f"{name}: {image.height}x{image.width} px, but data.image_size is {size}: set "
        "the source's image_size to it"
      )
    return self.captions.tokens(caption, name), image

  def iterate(self, step: int, part: tuple[int, int] | range | None = None) -> Ahead:
    """Yields batches from `step` on, read ahead by threads. Close it when done."""
    part = part_of_batch(self.config.train.batch_size, part)
    return Ahead(lambda t: self.batch(t, part), step, self.config.data.threads)


def captioned(document: Document, name: str) -> tuple[str, Image]:
  """Returns the last target picture of a document and the text before it.

  Raises:
    DataError: nothing is drawn, or a picture must be read first.
  """
  parts = document.parts
  pictures = [i for i, p in enumerate(parts) if isinstance(p, Image)]
  if len(pictures) != 1 or parts[pictures[0]].context:
    raise DataError(
      f"{name} is no captioned picture: a model that only draws is trained on "
      "documents of the task 'draw' (options.tasks={'draw': 1.0} of scenes and pairs)"
    )
  text = [p.text for p in parts[: pictures[0]] if isinstance(p, Text)]
  return "".join(text), parts[pictures[0]]
