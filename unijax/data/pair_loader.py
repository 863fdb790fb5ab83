"""Batches of pictures with their captions; batch t is a function of the config and t.

The same sources and the same order as packed rows have, but nothing is packed: a row is
one picture and one text.
"""

import dataclasses
import os

import numpy as np

from unijax.config import Config, ConfigError
from unijax.data import hashing, sources
from unijax.data.ahead import Ahead
from unijax.data.document import DataError, Document, Image, Text
from unijax.data.loader import Loader
from unijax.data.stream import DocumentStream
from unijax.data.tokenizer import make_tokenizer, vocabulary
from unijax.types import Pairs

VERSION = 1  # raise it with any change that alters batches


def pair(document: Document) -> tuple[str, Image]:
  """Returns the caption and the picture of a document.

  Raises:
    DataError: it is no pair.
  """
  images = [p for p in document.parts if isinstance(p, Image)]
  text = " ".join(p.text for p in document.parts if isinstance(p, Text)).strip()
  if len(images) != 1 or not text:
    raise DataError(
      f"document {document.id} ({document.kind}) is no pair of a picture and a "
      f"caption: it has {len(images)} pictures and {len(text)} letters"
    )
  return text, images[0]


def pair_sources(config: Config, *, held_out: bool = False, **changes):
  """Builds the sources of a config so that each document is one captioned picture.

  Kinds with tasks are asked to draw only; `changes` are options as in `make_source`.
  """
  made = []
  for entry in config.data.sources:
    known = sources.option_names(entry)
    only = {"tasks": {"draw": 1.0}, "caption_first": None, **changes}
    only = {k: v for k, v in only.items() if k in known}
    size = config.data.image_size
    source = sources.make_source(entry, size, held_out=held_out, **only)
    made.append((source, entry.weight))
  return made


class Captions:
  """Texts as rows of tokens of one length.

  Attributes:
    vocab: ids that the token table has.

  Raises:
    ConfigError: `text.vocab` is smaller than what the tokenizer needs.
  """

  def __init__(self, config: Config):
    self.tokenizer = make_tokenizer(config.data.tokenizer)
    known = vocabulary(self.tokenizer)
    self.special, self.length = known.special, config.text.length
    self.vocab = config.text.vocab or known.size
    if self.vocab < known.size:
      raise ConfigError(
        f"text.vocab: {self.vocab} ids, but data.tokenizer="
        f"{config.data.tokenizer!r} and the special tokens need {known.size}; "
        "0 takes what is needed"
      )

  def row(self, text: str) -> tuple[np.ndarray, int]:
    """Returns (tokens [length], position of EOS); what does not fit is cut off."""
    ids = self.tokenizer.encode(text)[: self.length - 2]
    row = np.full(self.length, self.special.pad, np.int32)
    row[: len(ids) + 2] = [self.special.bos, *ids, self.special.eos]
    return row, len(ids) + 1

  def rows(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (tokens [B, length], positions of EOS [B])."""
    made = [self.row(text) for text in texts]
    return np.stack([r for r, _ in made]), np.asarray([e for _, e in made], np.int32)


@dataclasses.dataclass(frozen=True)
class _Row:
  number: int
  caption: str
  image: Image


class PairLoader:
  """Batches from any step on; the interface is that of `data.loader.Loader`.

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: has no use here, as nothing is planned.

  Attributes:
    captions: turns texts into tokens.
    vocab: ids that the token table has.
    plan_hash: decides all batches and their order.

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
    self.config = config
    self.captions = Captions(config)
    self.vocab = self.captions.vocab
    made = [(s, w) for s, w in pair_sources(config, held_out=held_out) if w > 0]
    self.stream = DocumentStream(made, config.seed)
    t, size = config.text, config.data.image_size
    named = [[s.signature, len(s), weight] for s, weight in made]
    self.plan_hash = hashing.stable_hash(
      [VERSION, config.seed, size, t.length, self.captions.tokenizer.signature, named],
      digits=32,
    )

  def batch(self, step: int, part: tuple[int, int] | range | None = None) -> Pairs:
    """Returns batch `step`, or a part of it as in `iterate`, built in this thread."""
    first = step * self.config.train.batch_size
    return self._stack([self._row(first + i) for i in self.part(part)])

  def iterate(self, step: int, part: tuple[int, int] | range | None = None) -> Ahead:
    """Yields batches from `step` on, read ahead by threads, as `Loader.iterate`."""
    part = self.part(part)
    threads = self.config.data.threads
    return Ahead(lambda number: self.batch(number, part), step, threads)

  part = Loader.part

  def padding(self, step: int) -> float:
    """Returns the share of the text positions of batch `step` that are empty."""
    first, size = step * self.config.train.batch_size, self.config.train.batch_size
    texts = [self._row(first + i).caption for i in range(size)]
    end = self.captions.rows(texts)[1]
    return float(1.0 - (end + 1).mean() / self.config.text.length)

  def _row(self, number: int) -> _Row:
    document, source = self.stream[number]
    try:
      return _Row(number, *pair(document))
    except DataError as error:
      raise DataError(
        f"source {source!r}: {error}; train.task='alignment' reads pairs only"
      ) from error

  def _stack(self, rows: list[_Row]) -> Pairs:
    size = self.config.data.image_size
    pixels = [row.image.pixels() for row in rows]
    for row, p in zip(rows, pixels, strict=True):
      if p.shape[:2] != (size, size):
        raise DataError(
          f"{row.image.name}: {p.shape[1]} x {p.shape[0]} pixels, but data.image_size "
          f"is {size}: give the source this image_size"
        )
    tokens, end = self.captions.rows([row.caption for row in rows])
    caption = [int(hashing.stable_hash(row.caption, 8), 16) for row in rows]
    return Pairs(
      pixels_BHWC=np.stack(pixels),
      tokens_BT=tokens,
      end_B=end,
      caption_B=np.asarray(caption, np.uint32),
      key_B=np.asarray([row.number for row in rows], np.uint32),
    )
