"""Batches of numbered items: item n is made of document n, and nothing is packed.

Batch t is items [t B, (t + 1) B), a function of the config and t; any part of it is
built without the rest. Pairs, pictures and drawings are such items: each loader says
how an item is made of its document and how items are stacked, and nothing else.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unijax.config import Config
from unijax.data import hashing
from unijax.data.ahead import Ahead, depth
from unijax.data.loader import part_of_batch
from unijax.data.sources import Source
from unijax.data.stream import DocumentStream


class NumberedLoader:
  """Batches from any step on; the interface is that of `data.loader.Loader`.

  Args:
    config: of the run.
    sources: with their weights; those of weight 0 are left out.
    signature: what else than the sources decides the items.

  Attributes:
    stream: documents by number.
    plan_hash: decides all items and their order.
    vocab: ids that a token table must hold; 0 without text.
    text_length: token positions of an item; 0 without text.
  """

  vocab: int = 0
  text_length: int = 0

  def __init__(
    self, config: Config, sources: list[tuple[Source, float]], signature: list
  ):
    used = [(source, weight) for source, weight in sources if weight > 0]
    self.config = config
    self.stream = DocumentStream(used, config.seed)
    named = [[source.signature, len(source), weight] for source, weight in used]
    self.plan_hash = hashing.stable_hash([*signature, named], digits=32)
    # What is asked of a batch that was built, or is built ahead, is still known.
    self._room = (depth(config.data.threads) + 2) * config.train.batch_size
    self._filled: dict[int, tuple[int, int]] = {}

  def item(self, number: int) -> Any:
    """Returns item `number`.

    Raises:
      DataError: the document is none of its kind.
    """
    raise NotImplementedError

  def stack(self, numbers: list[int], items: list) -> Any:
    """Returns the items, whose numbers these are, as a batch."""
    raise NotImplementedError

  def filled(self, item) -> int:
    """Returns how many of the `text_length` positions of an item hold a token."""
    return 0

  def batch(self, step: int, part: tuple[int, int] | range | None = None):
    """Returns batch `step`, or a part of it as in `iterate`, built in this thread."""
    first = step * self.config.train.batch_size
    numbers = [first + i for i in self.part(part)]
    return self.stack(numbers, [self._item(n) for n in numbers])

  def iterate(self, step: int, part: tuple[int, int] | range | None = None) -> Ahead:
    """Yields batches from `step` on, read ahead by threads, as `Loader.iterate`."""
    part = self.part(part)
    return Ahead(lambda t: self.batch(t, part), step, self.config.data.threads)

  def part(self, part: tuple[int, int] | range | None) -> range:
    """Returns which items of a batch a part is; see `Loader.iterate`."""
    return part_of_batch(self.config.train.batch_size, part)

  def padding(self, step: int) -> float:
    """Returns the share of the text positions of batch `step` that are empty."""
    if not self.text_length:
      return 0.0
    size = self.config.train.batch_size
    filled = [self._filled_of(step * size + i) for i in range(size)]
    return 1.0 - float(np.mean(filled)) / self.text_length

  def _item(self, number: int):
    item = self.item(number)
    if self.text_length:
      self._filled[number % self._room] = number, self.filled(item)
    return item

  def _filled_of(self, number: int) -> int:
    known, filled = self._filled.get(number % self._room, (-1, 0))
    return filled if known == number else self.filled(self._item(number))


class TokenRows:
  """Texts as rows of tokens of one length; subclasses say which tokens.

  Args:
    tokenizer: turns text into ids.
    special: ids of the special tokens.
    length: of every row.
  """

  def __init__(self, tokenizer, special, length: int):
    self.tokenizer, self.special, self.length = tokenizer, special, length

  def stack(self, ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (int32 tokens [B, length] with padding, int32 lengths [B])."""
    tokens = np.full((len(ids), self.length), self.special.pad, np.int32)
    for row, given in zip(tokens, ids, strict=True):
      row[: len(given)] = given
    return tokens, np.asarray([len(given) for given in ids], np.int32)
