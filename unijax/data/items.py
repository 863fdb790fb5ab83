"""Captioned pictures of the user's own: checked, split and counted, wherever they are.

A subclass of `ItemSource` says how to read the caption and the picture of an item; this
file does the rest, so that every kind of storage treats bad input alike. Documents
never change their number while a source lives: with `on_error='skip'` every item is
read and decoded once when the source is built, so that what is left out is known, and
counted, before the first document is read. Large data sets pay for that pass once by
going through `unijax data prepare`.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from unijax.data import hashing, images, pairs, splits
from unijax.data.document import DataError, Image
from unijax.data.images import BadItem

_SKIP = "leave such items out with on_error='skip'"
_NAMED = 5  # bad items named in one message
# Options that say where the data is or how to read it, and not what it holds: a copy
# of a data set on another machine has the same signature.
_NATIVE = ("step", "least", "most")  # of pictures that keep their shape
_NOT_CONTENT = ("path", "dataset", "data_dir", "index", "cached_groups", "on_error")


@dataclasses.dataclass(frozen=True)
class ItemOptions(pairs.PairOptions):
  """What is taken from a user's data set, and (inherited) as which documents.

  Attributes:
    image_size: pixels a side of the square that a picture becomes.
    fit, resample, resize: how it does; see `images.Prepare`.
    step, least, most: with fit="native", as in `images.native_size`.
    split: train, held_out or all.
    held_out: share of the items held out, by a hash of their keys.
    on_error: fail, or skip: leave bad items out and count them.
    max_pixels, min_side: see `images.Limits`.
    max_caption_bytes: of UTF-8; longer captions are bad items.
  """

  image_size: int = 64
  fit: str = images.CROP.fit
  resample: str = images.CROP.resample
  resize: int = images.CROP.side
  step: int = images.CROP.step
  least: int = images.CROP.least
  most: int = images.CROP.most
  split: str = "train"
  held_out: float = 0.05
  on_error: str = "fail"
  max_pixels: int = images.Limits.max_pixels
  min_side: int = images.Limits.min_side
  max_caption_bytes: int = 1000

  def __post_init__(self):
    super().__post_init__()
    splits.check(self.split, self.held_out)
    if self.image_size < 1 or self.max_caption_bytes < 1:
      raise DataError(
        "image_size and max_caption_bytes must be positive, got "
        f"{self.image_size} and {self.max_caption_bytes}"
      )
    if self.on_error not in ("fail", "skip"):
      raise DataError(f"on_error must be 'fail' or 'skip', got {self.on_error!r}")
    self.limits()
    self.prepare()

  def limits(self) -> images.Limits:
    """Returns the limits on the size of pictures."""
    return images.Limits(self.max_pixels, self.min_side)

  def prepare(self) -> images.Prepare:
    """Returns how a picture becomes a square, or keeps its shape."""
    return images.Prepare(
      self.fit, self.resample, self.resize, self.step, self.least, self.most
    )


class ItemSource(pairs.PairSource):
  """A source over numbered items; a subclass says what they are and calls `_select`.

  Attributes:
    skipped: names of the items left out, by reason; empty unless on_error is 'skip'.
  """

  options: ItemOptions

  def label(self, number: int) -> str:
    """Returns the unique name of an item, for messages."""
    raise NotImplementedError

  def key(self, number: int) -> str:
    """Returns what decides the split; equal for items that show the same picture."""
    return self.label(number)

  def caption(self, number: int) -> str:
    """Returns the caption of an item; raises BadItem."""
    raise NotImplementedError

  def read(self, number: int) -> bytes:
    """Returns the picture file of an item; raises BadItem."""
    raise NotImplementedError

  def _select(self, total: int, content: object, check_captions: bool) -> None:
    """Chooses the items of the split and leaves bad ones out, or fails.

    Args:
      total: number of items.
      content: JSON-like value that decides what all the items hold, wherever it is.
      check_captions: look at every caption now, also when on_error is 'fail'.

    Raises:
      DataError: bad captions and on_error is 'fail', or no item left.
    """
    options = self.options
    numbers = [
      number
      for number in range(total)
      if options.split == "all"
      or splits.contains(options.split, options.held_out, self.key(number))
    ]
    if options.on_error == "skip":
      with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter lock
        found = list(pool.map(lambda n: self._problem(n, self._check_item), numbers))
    else:
      found = [self._problem(n, self._check_caption) for n in numbers if check_captions]
    bad = {n: error for n, error in zip(numbers, found, strict=False) if error}
    if bad and options.on_error == "fail":
      raise DataError(_summary(self.name, list(bad.values()), len(numbers)))
    self.numbers = [number for number in numbers if number not in bad]
    self.count = len(self.numbers)
    if not self.numbers:
      raise DataError(
        f"{self.name}: no items in the {options.split} split: {total} in all, "
        f"{len(numbers)} in the split with held_out={options.held_out}, {len(bad)} of "
        "them bad"
      )
    self.skipped: dict[str, list[str]] = {}
    for number, problem in bad.items():
      self.skipped.setdefault(problem.reason, []).append(self.label(number))
    for reason, names in self.skipped.items():
      logging.getLogger("unijax").warning(
        "%s: left out %d of %d items: %s (%s)",
        self.name, len(names), len(numbers), reason, _some(names),
      )  # fmt: skip
    chosen = dataclasses.asdict(options)
    unused = () if options.fit == "native" else _NATIVE
    chosen = {k: chosen[k] for k in chosen if k not in (*_NOT_CONTENT, *unused)}
    self.signature = hashing.stable_hash(
      [type(self).__name__, chosen, self.skipped, content]
    )

  def pair(self, pair: int, index: int) -> tuple[str, Image]:
    """Returns the caption and the lazily decoded picture of a pair; raises BadItem."""
    del index  # every round shows the same picture
    number, size = self.numbers[pair], self.options.image_size
    load = functools.partial(self._pixels, number)
    name, sides = f"{self.name}: {self.label(number)}", (size, size)
    if self.options.fit == "native":  # known by the header alone
      prepare = self.options.prepare()
      sides = images.native_size_of(self.read(number), name, prepare)
    return self._check_caption(number), Image(load, *sides, name=name)

  def _pixels(self, number: int) -> np.ndarray:
    options, name = self.options, f"{self.name}: {self.label(number)}"
    return images.decode(
      self.read(number), options.image_size, options.limits(), name, options.prepare()
    )

  def _check_caption(self, number: int) -> str:
    caption = self.caption(number)
    check_caption(self.label(number), caption, self.options.max_caption_bytes)
    return caption

  def _check_item(self, number: int) -> None:
    self._check_caption(number)
    self._pixels(number)

  def _problem(self, number: int, check: Callable[[int], object]) -> BadItem | None:
    try:
      check(number)
    except BadItem as error:
      return error
    return None


def check_caption(name: str, caption: str, max_bytes: int) -> None:
  """Raises BadItem unless the caption is UTF-8, not blank, and short enough."""
  try:
    length = len(caption.encode("utf-8"))
  except UnicodeEncodeError as error:
    detail = f"at character {error.start}"
    raise BadItem(
      name, "caption is not UTF-8", detail, f"re-encode it, or {_SKIP}"
    ) from error
  if not caption.strip():
    raise BadItem(name, "empty caption", "no text", f"write one, or {_SKIP}")
  if length > max_bytes:
    detail = f"{length} bytes are more than max_caption_bytes={max_bytes}"
    raise BadItem(name, "caption too long", detail, f"raise the limit, or {_SKIP}")


def _some(names: list[str]) -> str:
  return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _summary(name: str, bad: list[BadItem], total: int) -> str:
  lines = [f"{name}: {len(bad)} of {total} items are bad:"]
  lines += [f"  {problem}" for problem in bad[:_NAMED]]
  if len(bad) > _NAMED:
    lines.append(f"  ... and {len(bad) - _NAMED} more")
  return "\n".join(lines)
