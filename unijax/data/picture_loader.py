"""Batches of pictures, for the training of a codec: batch t is a function of t.

Picture n is that of document n of the stream, one of them where it has several.
"""

import os

import numpy as np

from unijax.config import Config
from unijax.data import hashing
from unijax.data.ahead import Ahead
from unijax.data.document import DataError, Image
from unijax.data.loader import part_of_batch
from unijax.data.rows import check_size
from unijax.data.sources import make_sources
from unijax.data.stream import DocumentStream
from unijax.types import Pictures

VERSION = 1  # raise it with any change that alters which pictures are read


class PictureLoader:
  """Batches of pictures from any step on.

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: unused; nothing has to be planned.

  Attributes:
    plan_hash: decides all pictures and their order.
    vocab: 0, there is no text.

  Raises:
    DataError: of a source.
  """

  vocab = 0

  def __init__(
    self,
    config: Config,
    *,
    held_out: bool = False,
    folder: str | os.PathLike | None = None,
  ):
    self.config, self.size = config, config.data.image_size
    sources = [(s, w) for s, w in make_sources(config, held_out=held_out) if w > 0]
    self.stream = DocumentStream(sources, config.seed)
    self.plan_hash = hashing.stable_hash(
      [
        "pictures",
        VERSION,
        config.seed,
        [[s.signature, len(s), w] for s, w in sources],
      ],
      digits=32,
    )

  def picture(self, number: int) -> np.ndarray:
    """Returns picture `number` as uint8 [size, size, 3].

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
    check_size(image, self.size)
    return image.pixels()

  def batch(self, step: int, part: tuple[int, int] | range | None = None) -> Pictures:
    """Returns batch `step`, or a part of it as in `data.loader.Loader.iterate`."""
    size = self.config.train.batch_size
    numbers = [step * size + i for i in part_of_batch(size, part)]
    pixels = np.stack([self.picture(n) for n in numbers])
    return Pictures(pixels, np.asarray([n % 2**32 for n in numbers], np.uint32))

  def iterate(self, step: int, part: tuple[int, int] | range | None = None) -> Ahead:
    """Yields batches from `step` on, read ahead by threads. Close it when done."""
    part = part_of_batch(self.config.train.batch_size, part)
    return Ahead(lambda n: self.batch(n, part), step, self.config.data.threads)

  def padding(self, step: int) -> float:
    """Returns 0: pictures fill their batches."""
    return 0.0
