"""Batches of pictures, for the training of a codec.

Picture n is that of document n of the stream, one of them where it has several.
"""

import os

import numpy as np

from unijax.config import Config
from unijax.data import hashing
from unijax.data.document import DataError, Image, check_size
from unijax.data.numbered import NumberedLoader
from unijax.data.sources import make_sources
from unijax.types import Pictures

VERSION = 1  # raise it with any change that alters which pictures are read


class PictureLoader(NumberedLoader):
  """Batches of Pictures; an item is uint8 [size, size, 3].

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: unused; nothing has to be planned.

  Raises:
    DataError: of a source.
  """

  def __init__(
    self,
    config: Config,
    *,
    held_out: bool = False,
    folder: str | os.PathLike | None = None,
  ):
    del folder
    signature = ["pictures", VERSION, config.seed]
    super().__init__(config, make_sources(config, held_out=held_out), signature)

  def item(self, number: int) -> np.ndarray:
    """See `NumberedLoader`.

    Raises:
      DataError: the document has no picture, or one of another size.
    """
    document, name = self.stream[number]
    images = [part for part in document.parts if isinstance(part, Image)]
    if not images:
      raise DataError(
        f"source {name!r}: document {document.id} ({document.kind}) has no picture: "
        "leave this source out of the data.sources of a codec"
      )
    image = images[hashing.integer(len(images), "picture", number)]
    check_size(image, self.config.data.image_size)
    return image.pixels()

  def stack(self, numbers: list[int], items: list[np.ndarray]) -> Pictures:
    """See `NumberedLoader`."""
    key = np.asarray([n % 2**32 for n in numbers], np.uint32)
    return Pictures(np.stack(items), key)
