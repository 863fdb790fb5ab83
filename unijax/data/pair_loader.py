"""Batches of pictures with their captions, for encoders.

The same sources and the same order as packed rows have; an item is one picture and one
text.
"""

import dataclasses
import os
import string

import numpy as np

from unijax.config import Config, ConfigError
from unijax.data import hashing, sources
from unijax.data.document import DataError, Document, Image, Text
from unijax.data.numbered import NumberedLoader, TokenRows
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
    only = {**sources.prepared(config, entry), **only}
    size = config.data.image_size
    source = sources.make_source(entry, size, held_out=held_out, **only)
    made.append((source, entry.weight))
  return made


NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
CANONICAL = {  # what is done to a text before tokens are made of it
  "as_is": lambda text: text,
  "lower": str.lower,
  # Lower case, without punctuation, single spaces, as in Zhai et al. 2023.
  "words": lambda text: " ".join(text.lower().translate(NO_PUNCTUATION).split()),
}


class Captions(TokenRows):
  """Texts as rows of tokens of one length: BOS if `text.bos`, words, EOS, padding.

  Attributes:
    vocab: ids that the token table has.
    marks: what else than the tokenizer decides rows.

  Raises:
    ConfigError: `text.vocab` is smaller than what the tokenizer needs.
  """

  def __init__(self, config: Config):
    tokenizer = make_tokenizer(config.data.tokenizer)
    known, t = vocabulary(tokenizer, given=config.data.special), config.text
    special = known.special
    super().__init__(tokenizer, special, t.length)
    self.canonical, self.bos = t.canonical, t.bos
    self.marks = [special.pad, special.bos, special.eos, t.canonical, t.bos]
    self.vocab = t.vocab or known.size
    used = [special.pad, special.eos, *([special.bos] if t.bos else [])]
    if config.align.objective == "queries" and config.align.writes:
      used.append(special.assistant)
    needed = max(tokenizer.vocab_size, *(i + 1 for i in used))
    if self.vocab < needed:
      raise ConfigError(
        f"text.vocab: {self.vocab} ids, but data.tokenizer="
        f"{config.data.tokenizer!r} and the special tokens need {needed}; "
        "0 takes what is needed"
      )

  def ids(self, text: str) -> list[int]:
    """Returns the ids without padding; what does not fit is cut off."""
    text = CANONICAL[self.canonical](text)
    first = [self.special.bos] * self.bos
    ids = self.tokenizer.encode(text)[: self.length - 1 - len(first)]
    return [*first, *ids, self.special.eos]

  def rows(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (tokens [B, length], positions of EOS [B])."""
    tokens, length = self.stack([self.ids(text) for text in texts])
    return tokens, length - 1


@dataclasses.dataclass(frozen=True)
class Pair:
  """An item: a caption, its ids, and the picture."""

  caption: str
  ids: list[int]
  image: Image


class PairLoader(NumberedLoader):
  """Batches of Pairs.

  Args:
    config: of the run.
    held_out: read what training never sees.
    folder: unused; nothing has to be planned.

  Attributes:
    captions: turns texts into tokens.

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
    self.captions = Captions(config)
    self.vocab, self.text_length = self.captions.vocab, self.captions.length
    signature = [
      VERSION, config.seed, config.data.image_size, config.text.length,
      self.captions.tokenizer.signature, self.captions.marks,
    ]  # fmt: skip
    super().__init__(config, pair_sources(config, held_out=held_out), signature)

  def item(self, number: int) -> Pair:
    """See `NumberedLoader`."""
    document, source = self.stream[number]
    try:
      caption, image = pair(document)
    except DataError as error:
      raise DataError(
        f"source {source!r}: {error}; train.task='alignment' reads pairs only"
      ) from error
    return Pair(caption, self.captions.ids(caption), image)

  def stack(self, numbers: list[int], items: list[Pair]) -> Pairs:
    """See `NumberedLoader`.

    Raises:
      DataError: a picture of another size than `data.image_size`.
    """
    size = self.config.data.image_size
    pixels = [item.image.pixels() for item in items]
    for item, p in zip(items, pixels, strict=True):
      if p.shape[:2] != (size, size):
        raise DataError(
          f"{item.image.name}: {p.shape[1]} x {p.shape[0]} pixels, but data.image_size "
          f"is {size}: give the source this image_size"
        )
    tokens, length = self.captions.stack([item.ids for item in items])
    caption = [int(hashing.stable_hash(item.caption, 8), 16) for item in items]
    return Pairs(
      pixels_BHWC=np.stack(pixels),
      tokens_BT=tokens,
      end_B=length - 1,
      caption_B=np.asarray(caption, np.uint32),
      key_B=np.asarray(numbers, np.uint32),
    )

  def filled(self, item: Pair) -> int:
    """See `NumberedLoader`."""
    return len(item.ids)
