"""A picture and its caption as a document: drawn, described, or plain pretraining.

Every source of captioned pictures builds on this file, so that their documents all read
alike and one set of options serves them all. A source of n pairs has documents in
rounds of n: document i is pair i % n in round i // n, so a pair that is drawn in one
round can be described in the next.
"""

import dataclasses
from collections.abc import Mapping

from unijax.data import hashing
from unijax.data.document import DataError, Document, Image, Text, Turn

TASKS = ("draw", "describe")


@dataclasses.dataclass(frozen=True)
class PairOptions:
  """How captioned pictures become documents.

  Attributes:
    tasks: weights of `draw` (caption, then picture) and `describe` (picture, then
      caption).
    caption_first: share of `draw`, in place of `tasks`; None leaves `tasks` as it is.
    chat: turns of user and assistant; False gives plain pairs, all text trained.
    seed: decides which pair gets which task in which round.
    num_documents: length of the source; None is one round for each task.
  """

  tasks: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {"draw": 1.0, "describe": 1.0}
  )
  caption_first: float | None = None
  chat: bool = True
  seed: int = 0
  num_documents: int | None = None

  def __post_init__(self):
    object.__setattr__(self, "tasks", dict(self.tasks))
    unknown = sorted(set(self.tasks) - set(TASKS))
    if unknown:
      raise DataError(f"unknown tasks {unknown}; known: {', '.join(TASKS)}")
    weights = self.tasks.values()
    if min(weights, default=0) < 0 or not sum(weights) > 0:
      raise DataError(
        f"tasks must not be negative, and one must be positive; got {self.tasks}"
      )
    if self.caption_first is not None and not 0.0 <= self.caption_first <= 1.0:
      raise DataError(f"caption_first must be in [0, 1], got {self.caption_first}")
    if self.num_documents is not None and self.num_documents < 1:
      raise DataError(f"num_documents must be positive, got {self.num_documents}")

  def draw_share(self) -> float:
    """Returns the share of draw documents, in [0, 1]."""
    if self.caption_first is not None:
      return float(self.caption_first)
    return self.tasks.get("draw", 0.0) / sum(self.tasks.values())

  def task(self, pair: int, round_: int) -> str:
    """Returns 'draw' or 'describe', in proportion to the weights.

    The rounds of one pair follow the base-2 van der Corput sequence from a random
    start, so that with equal weights every two rounds hold each task once.
    """
    start = hashing.uniform("task", self.seed, pair)
    point = (start + _van_der_corput(round_)) % 1.0
    return "draw" if point < self.draw_share() else "describe"


class PairSource:
  """A source of captioned pictures. A subclass gives `count` and `pair`."""

  name: str
  signature: str
  options: PairOptions
  count: int  # pairs

  def pair(self, pair: int, index: int) -> tuple[str, Image]:
    """Returns the caption and the picture of a pair, for the document at `index`."""
    raise NotImplementedError

  def __len__(self) -> int:
    if self.options.num_documents is not None:
      return self.options.num_documents
    return self.count * (1 if self.options.draw_share() in (0.0, 1.0) else 2)

  def __getitem__(self, index: int) -> Document:
    """Returns a draw or describe document; raises IndexError beyond the end."""
    index = range(len(self))[index]
    round_, pair = divmod(index, self.count)
    caption, image = self.pair(pair, index)
    task = self.options.task(pair, round_)
    return pair_document(caption, image, task, index, self.options.chat)


def pair_document(
  caption: str, image: Image, task: str, index: int, chat: bool
) -> Document:
  """Returns the document at `index`: 'draw' or 'describe' on one pair.

  In a draw task the picture is a target at any noise level; in a describe task it is
  context. In chat the user's caption is not trained; in plain pairs every text is.
  """
  image = dataclasses.replace(image, context=task == "describe")
  text = Text(caption, loss=task == "describe" or not chat)
  first, second = (text, image) if task == "draw" else (image, text)
  parts = (Turn("user"), first, Turn("assistant"), second) if chat else (first, second)
  return Document(parts, id=index, kind=task)


def _van_der_corput(n: int) -> float:
  """Returns the bits of n mirrored behind the point: 0, 1/2, 1/4, 3/4, 1/8, ..."""
  value, unit = 0.0, 0.5
  while n:
    value += unit * (n & 1)
    n, unit = n >> 1, unit / 2
  return value
