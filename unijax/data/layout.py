"""One document as positions, before its pixels are read."""

import dataclasses
import math

import numpy as np

from unijax.data.document import Image


@dataclasses.dataclass
class Layout:
  """One document as positions, before its pixels are read. Lists of equal length."""

  tokens: list[int] = dataclasses.field(default_factory=list)
  span: list[int] = dataclasses.field(default_factory=list)
  patch: list[int] = dataclasses.field(default_factory=list)
  # number of the feature in its picture; FEATURE_BEGIN; -1 where no encoder is read
  feature: list[int] = dataclasses.field(default_factory=list)
  text_weight: list[float] = dataclasses.field(default_factory=list)
  image_weight: list[float] = dataclasses.field(default_factory=list)
  noise_limit: list[float] = dataclasses.field(default_factory=list)
  hidden: list[bool] = dataclasses.field(default_factory=list)
  position: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
  # one a span: (offset of its first patch or feature, picture or its clean patches
  # [P, C] or codes [P])
  images: list[tuple[int, Image | np.ndarray]] = dataclasses.field(default_factory=list)
  next_position: int = 0
  key: int = 0  # position in the document stream; keys the noise of its images
  blocks: int = 0  # of text
  left: int = 0  # positions that are free in the last of them

  def __len__(self):
    return len(self.tokens)

  def add_tokens(self, ids, weight: float):
    """Appends discrete tokens, all with one loss weight."""
    n, start = len(ids), self.next_position
    self.tokens += ids
    self.span += [-1] * n
    self.patch += [-1] * n
    self.feature += [-1] * n
    self.text_weight += [weight] * n
    self.image_weight += [0.0] * n
    self.noise_limit += [0.0] * n
    self.hidden += [False] * n
    self.position += [(p, p, p) for p in range(start, start + n)]
    self.next_position += n

  def add_image(
    self, image, count: int, token: int, positions: str, weight: float, limit: float,
    patches: bool = True, features: bool = False, hidden: bool = False, line=(),
    grid: tuple[int, int] | None = None,
  ):  # fmt: skip
    """Appends the patches of an image, or what an encoder says of it, as one span.

    Args:
      image: as in `images`.
      count: positions; in raster order for positions="grid".
      token: that stands at each.
      positions: as `model.positions`.
      weight, limit: loss weight of each patch; largest timestep.
      patches, features: what stands at these positions; both are fused.
      hidden: nothing outside of it sees it.
      line: ids that stand behind each line of patches, at positions of their own; only
        with positions="sequential".
      grid: rows and columns of the positions; None: a square.
    """
    if line:
      self._add_lines(image, count, token, weight, limit, tuple(line))
      return
    number, first = len(self.images), self.next_position
    self.images.append((len(self), image))
    self.tokens += [token] * count
    self.span += [number] * count
    outside = [-1] * count
    self.patch += range(count) if patches else outside
    self.feature += range(count) if features else outside
    self.text_weight += [0.0] * count
    self.image_weight += [weight] * count
    self.noise_limit += [limit] * count
    self.hidden += [hidden] * count
    if positions == "sequential":
      self.position += [(first + i,) * 3 for i in range(count)]
      self.next_position += count
    elif positions == "shared":
      self.position += [(first,) * 3] * count
      self.next_position += 1
    else:
      rows, columns = grid or (math.isqrt(count),) * 2
      self.position += [
        (first, first + r, first + c) for r in range(rows) for c in range(columns)
      ]
      self.next_position += max(rows, columns)

  def frame(self, start: int, positions: str, hidden: bool = False):
    """Makes what stands from `start` on a part of the last image.

    Args:
      start: where it begins.
      positions: as `model.positions`; "shared" gives all of it one index.
      hidden: nothing outside of it sees it.
    """
    count = len(self) - start
    self.span[start:] = [len(self.images) - 1] * count
    self.hidden[start:] = [hidden] * count
    if positions == "shared":
      self.position[start:] = [self.position[start]] * count
      self.next_position = self.position[start][0] + 1

  def _add_lines(self, image, count, token, weight, limit, line) -> None:
    """`add_image` of patches whose lines end in tokens."""
    side, begin, number = math.isqrt(count), len(self), len(self.images)
    for first in range(0, count, side):
      self.add_tokens([token] * side + list(line), 0.0)
      here = slice(len(self) - side - len(line), len(self) - len(line))
      self.patch[here] = range(first, first + side)
      self.image_weight[here] = [weight] * side
    inside = len(self) - begin
    self.span[begin:], self.noise_limit[begin:] = [number] * inside, [limit] * inside
    self.images.append((begin, image))

  def leave_out(self, positions: list[int]) -> None:
    """Takes out positions that are of no image; the others stay where they are."""
    gone = set(positions)
    for name, values in self._lists().items():
      setattr(self, name, [v for i, v in enumerate(values) if i not in gone])
    self.images = [(at - sum(i < at for i in gone), image) for at, image in self.images]

  def _lists(self) -> dict[str, list]:
    """What there is of each position, by name."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {n: x for n, x in fields.items() if isinstance(x, list) and n != "images"}

  def part(self, start: int, stop: int) -> "Layout":
    """Returns positions [start, stop) as a layout whose images are numbered from 0.

    The cut must not go through an image.
    """
    lists = {name: values[start:stop] for name, values in self._lists().items()}
    images = [(at - start, x) for at, x in self.images if start <= at < stop]
    first = min((n for n in lists["span"] if n >= 0), default=0)
    lists["span"] = [n - first if n >= 0 else n for n in lists["span"]]
    return Layout(
      **lists, images=images, next_position=self.next_position, key=self.key
    )
