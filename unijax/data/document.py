"""Documents: what a source yields, before any tokenizer, patch size or model is known.

A document is a short list of parts in reading order:

  draw      Turn(user) Text("a red circle", loss=False) Turn(assistant) Image
  describe  Turn(user) Image(context=True) Turn(assistant) Text("a red circle")
  ask       Turn(user) Image(context=True) Text("how many circles?", loss=False)
            Turn(assistant) Text("1") Turn(user) Text(...) ...
  edit      Turn(user) Image(context=True) Text("make it blue", loss=False)
            Turn(assistant) Image
  plain     Text("a red circle") Image          (no turns: pretraining pairs)

`unijax.data.rows` turns it into positions; nothing here knows of tokens.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class DataError(ValueError):
  """Bad input data. The message names the item and says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Text:
  """A piece of text; `loss` says whether the model is trained to write it."""

  text: str
  loss: bool = True


@dataclasses.dataclass(frozen=True)
class Encoded:
  """What a codec made of a picture; see `unijax.data.latents`."""

  codec: Mapping[str, Any]  # its identity
  latents: np.ndarray  # float32 [h/stride, w/stride, channels]
  codes: np.ndarray | None  # int32 [h/stride, w/stride]


@dataclasses.dataclass(frozen=True)
class Image:
  """A picture, decoded or rendered only when `pixels()` is called.

  `context` pictures are there to be read: their noise is limited by
  `data.noise_limit`. All others are targets at any noise level.
  """

  load: Callable[[], np.ndarray]  # -> uint8 [height, width, 3]
  height: int
  width: int
  context: bool = False
  name: str = "image"  # file, record or index, for messages
  encoded: Encoded | None = None  # kept beside it, so that it need not be made

  def pixels(self) -> np.ndarray:
    """Returns uint8 [height, width, 3]; raises DataError if `load` gives another."""
    pixels = self.load()
    want = (self.height, self.width, 3)
    if pixels.dtype != np.uint8 or pixels.shape != want:
      raise DataError(
        f"{self.name}: expected uint8 pixels of shape {want}, "
        f"got {pixels.dtype} {pixels.shape}"
      )
    return pixels


@dataclasses.dataclass(frozen=True)
class Turn:
  """Who speaks from here on: 'user' or 'assistant'."""

  role: str

  def __post_init__(self):
    if self.role not in ("user", "assistant"):
      raise DataError(f"turn role must be 'user' or 'assistant', got {self.role!r}")


Part = Text | Image | Turn


@dataclasses.dataclass(frozen=True)
class Document:
  """Parts in reading order. `id` is unique in its source and keys all its noise."""

  parts: tuple[Part, ...]
  id: int
  kind: str = "document"  # draw, describe, ask, edit, ...: for display and metrics


def targets(parts) -> list[int]:
  """Returns places of the images that are to be drawn."""
  return [i for i, p in enumerate(parts) if isinstance(p, Image) and not p.context]


def leading(parts):
  """Returns (pictures shown before anything is said, the other parts)."""
  first = int(bool(parts) and isinstance(parts[0], Turn) and parts[0].role == "user")
  stop = first
  while stop < len(parts) and isinstance(parts[stop], Image) and parts[stop].context:
    stop += 1
  return parts[first:stop], parts[:first] + parts[stop:]


def dropped(parts, count: int, turns: bool = False):
  """Returns parts without the text, and perhaps the turns, of the first `count`."""
  kinds = (Text, Turn) if turns else Text
  return tuple(
    p for i, p in enumerate(parts) if not (isinstance(p, kinds) and i < count)
  )


def unseen(parts):
  """Returns parts without the pictures that are shown."""
  return tuple(p for p in parts if not (isinstance(p, Image) and p.context))


def check_size(image: Image, size: int) -> None:
  """Raises DataError where a picture is not of `data.image_size`."""
  if (image.height, image.width) != (size, size):
    raise DataError(
      f"{image.name}: {image.height}x{image.width} px, but data.image_size is "
      f"{size}: set the source's image_size to it"
    )


def check_shape(image: Image, side: int, most: int) -> None:
  """Raises DataError where a picture is not of whole positions, or of too many.

  Args:
    image: that keeps its shape.
    side: pixels a side of a position.
    most: pixels of a picture.
  """
  height, width = image.height, image.width
  if height % side or width % side or not 0 < height * width <= most:
    raise DataError(
      f"{image.name}: {height}x{width} px, but with data.fit='native' sides are "
      f"multiples of {side} px, and a picture has at most {most} (data.native_pixels)"
    )
