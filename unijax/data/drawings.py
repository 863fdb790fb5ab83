"""Captioned pictures, one a row: batches for models that only draw.

Item n is document n of the mixture: the text before its last picture that is a target.
"""

import os

import numpy as np

from unijax.config import Config
from unijax.data import hashing
from unijax.data.document import DataError, Document, Image, Text
from unijax.data.numbered import NumberedLoader, TokenRows
from unijax.data.rows import RowBuilder
from unijax.data.sources import make_sources
from unijax.data.tokenizer import make_tokenizer
from unijax.types import IMAGES_OF_A_DOCUMENT, Drawings

VERSION = 1  # raise it with any change that alters batches


class Captions(TokenRows):
  """Turns captions into tokens of one length.

  Args:
    builder: carries the tokenizer.
    length: of every row, BOS included.
  """

  def __init__(self, builder: RowBuilder, length: int):
    super().__init__(builder.tokenizer, builder.vocabulary.special, length)

  def tokens(self, caption: str, name: str) -> np.ndarray:
    """Returns int32 ids, BOS first, without padding.

    Raises:
      DataError: longer than `length`.
    """
    ids = [self.special.bos, *self.tokenizer.encode(caption)]
    if len(ids) > self.length:
      raise DataError(
        f"{name}: a caption of {len(ids)} tokens, more than "
        f"data.caption_length={self.length}: raise it, or shorten the caption"
      )
    return np.asarray(ids, np.int32)


class DrawingLoader(NumberedLoader):
  """Batches of Drawings; an item is (ids of the caption, picture).

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: unused; nothing has to be planned.

  Attributes:
    builder: carries the tokenizer and the codec.

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
    self.builder = RowBuilder(config, make_tokenizer(config.data.tokenizer))
    self.vocab = self.builder.vocabulary.size
    self.text_length = config.data.caption_length
    self.captions = Captions(self.builder, self.text_length)
    signature = [
      "drawings", VERSION, config.seed, config.data.caption_length,
      config.data.caption_dropout, self.builder.tokenizer.signature, self.builder.grid,
    ]  # fmt: skip
    super().__init__(config, make_sources(config, held_out=held_out), signature)

  def item(self, number: int) -> tuple[np.ndarray, Image]:
    """See `NumberedLoader`."""
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

  def stack(self, numbers: list[int], items: list) -> Drawings:
    """See `NumberedLoader`."""
    tokens, length = self.captions.stack([ids for ids, _ in items])
    patches = np.stack([self.builder.patches(image) for _, image in items])
    # As in packed rows: the first picture of the document with this number.
    key = np.asarray(numbers, np.int64) * IMAGES_OF_A_DOCUMENT % 2**32
    return Drawings(tokens, length, patches, key.astype(np.uint32))

  def filled(self, item) -> int:
    """See `NumberedLoader`."""
    return len(item[0])


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
