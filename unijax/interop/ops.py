"""What happens to the numbers of a weight on the way in, and its inverse.

A closed set. Each operation has three functions: `into`, from an array of the file to
ours; `back`, its inverse; and `shapes`, the shapes that a file may give a leaf of ours,
the first being the one that `back` makes. `into` returns views where it can, so that a
caller who needs a part of a leaf reads only that part of the file.
"""

import dataclasses
import math

import numpy as np

Shape = tuple[int, ...]


class Op:
  """One operation; this one leaves everything as it is.

  Attributes:
    whole: dtype of theirs where that is a whole number and ours is not; "" is as ours.
  """

  whole = ""

  def into(self, theirs: np.ndarray) -> np.ndarray:
    """From an array of the file to ours."""
    return theirs

  def back(self, ours: np.ndarray) -> np.ndarray:
    """From an array of ours to one of the file."""
    return ours

  def shapes(self, ours: Shape) -> list[Shape]:
    """Shapes that the file may have, the one that `back` makes first."""
    return [ours]


@dataclasses.dataclass(frozen=True)
class Linear(Op):
  """Matrices [out, in], also as 1x1 convolutions [out, in, 1, 1] -> [in, out].

  Attributes:
    conv: it is written as a convolution.
  """

  conv: bool = False

  def into(self, theirs):
    return theirs.reshape(theirs.shape[:2]).T

  def back(self, ours):
    return ours.T[:, :, None, None] if self.conv else ours.T

  def shapes(self, ours):
    if len(ours) != 2:
      return []
    flat = ours[::-1]
    both = [flat, (*flat, 1, 1)]
    return both[::-1] if self.conv else both


@dataclasses.dataclass(frozen=True)
class Conv(Op):
  """Convolutions [out, in, *window] -> [*window, in, out]; 1x1 also as [out, in].

  Attributes:
    linear: a 1x1 one is written as a matrix, as attention between places is.
  """

  linear: bool = False

  def into(self, theirs):
    if theirs.ndim == 2:
      theirs = theirs[:, :, None, None]
    return np.moveaxis(theirs, (0, 1), (-1, -2))

  def back(self, ours):
    theirs = np.moveaxis(ours, (-1, -2), (0, 1))
    return theirs[:, :, 0, 0] if self.linear else theirs

  def shapes(self, ours):
    if len(ours) < 3:
      return []
    whole = (ours[-1], ours[-2], *ours[:-2])
    if any(n != 1 for n in ours[:-2]):
      return [] if self.linear else [whole]
    return [whole[:2], whole] if self.linear else [whole, whole[:2]]


@dataclasses.dataclass(frozen=True)
class Patches(Op):
  """The convolution that cuts a picture into patches -> a matrix over their numbers.

  [out, channels, p, p] -> [p * p * channels, out]: in ours the channels of a pixel
  stand together. With several frames [out, channels, frames, p, p], one after the
  other in ours.

  Attributes:
    channels: of a pixel.
    frames: that a patch has; 0: there is no such axis.
    flat: theirs is written as a matrix, whose numbers are those of that convolution.
  """

  channels: int = 3
  frames: int = 0
  flat: bool = False

  def into(self, theirs):
    if self.flat:
      out, numbers = theirs.shape
      theirs = theirs.reshape(out, self.channels, *self._window(numbers))
    return np.moveaxis(theirs, (0, 1), (-1, -2)).reshape(-1, theirs.shape[0])

  def back(self, ours):
    window = ours.reshape(*self._window(ours.shape[0]), self.channels, ours.shape[1])
    theirs = np.moveaxis(window, (-1, -2), (0, 1))
    return theirs.reshape(ours.shape[::-1]) if self.flat else theirs

  def shapes(self, ours):
    if len(ours) != 2:
      return []
    window = self._window(ours[0])
    if math.prod(window) * self.channels != ours[0]:
      return []
    return [ours[::-1] if self.flat else (ours[1], self.channels, *window)]

  def _window(self, numbers: int) -> Shape:
    side = math.isqrt(numbers // (self.channels * (self.frames or 1)))
    return ((self.frames,) if self.frames else ()) + (side, side)


@dataclasses.dataclass(frozen=True)
class Ones(Op):
  """Theirs has axes of one element in front, or behind: [1, .., n] -> [n].

  Attributes:
    count: of these axes.
    op: what happens to the rest.
    behind: where they are.
  """

  count: int
  op: Op = Op()
  behind: bool = False

  def into(self, theirs):
    kept = slice(-self.count) if self.behind else slice(self.count, None)
    return self.op.into(theirs.reshape(theirs.shape[kept]))

  def back(self, ours):
    rest = self.op.back(ours)
    return rest.reshape(self._with(rest.shape))

  def shapes(self, ours):
    return [self._with(shape) for shape in self.op.shapes(ours)]

  def _with(self, shape: Shape) -> Shape:
    ones = (1,) * self.count
    return shape + ones if self.behind else ones + shape


@dataclasses.dataclass(frozen=True)
class Front(Op):
  """Ours has axes of one element in front: [n] -> [1, .., n].

  Attributes:
    count: of these axes.
    op: what happens to the rest.
  """

  count: int
  op: Op = Op()

  def into(self, theirs):
    rest = self.op.into(theirs)
    return rest.reshape((1,) * self.count + rest.shape)

  def back(self, ours):
    return self.op.back(ours.reshape(ours.shape[self.count :]))

  def shapes(self, ours):
    if ours[: self.count] != (1,) * self.count:
      return []
    return self.op.shapes(ours[self.count :])


@dataclasses.dataclass(frozen=True)
class Repeated(Op):
  """Ours has the same numbers several times: [n] -> [count, n], as of every head.

  Theirs may have several such rows, [rows, n], of which each is repeated in a run.
  `back` takes the first, so that a file is as it was only while all are equal.

  Attributes:
    count: of all in ours.
    op: what happens to a row before.
  """

  count: int
  op: Op = Op()

  def into(self, theirs):
    rows = [self.op.into(row) for row in theirs.reshape(-1, theirs.shape[-1])]
    return np.repeat(np.stack(rows), self.count // len(rows), axis=0)

  def back(self, ours):
    return self.op.back(ours[0])

  def shapes(self, ours):
    if len(ours) != 2 or ours[0] != self.count:
      return []
    several = [n for n in range(1, self.count + 1) if self.count % n == 0]
    one = self.op.shapes(ours[1:])
    return one + [(n, *shape) for n in several for shape in one]


@dataclasses.dataclass(frozen=True)
class Plus(Op):
  """Ours is theirs and a constant, such as scales that are kept less one."""

  constant: float

  def into(self, theirs):
    return theirs.astype(np.float32) + np.float32(self.constant)

  def back(self, ours):
    return ours.astype(np.float32) - np.float32(self.constant)


@dataclasses.dataclass(frozen=True)
class Negative(Op):
  """Ours has the other sign, such as a velocity towards noise for one towards data.

  Attributes:
    op: what happens besides.
  """

  op: Op = Op()

  def into(self, theirs):
    return self.op.into(-theirs)

  def back(self, ours):
    return -self.op.back(ours)

  def shapes(self, ours):
    return self.op.shapes(ours)


@dataclasses.dataclass(frozen=True)
class Shuffled(Op):
  """Patches that come out channel by channel -> place by place.

  Works on the first axis of theirs, [channels * p * p, ...], before `op`: what is made
  a picture by pixel shuffle (Shi et al. 2016) becomes a patch whose channels of a pixel
  stand together.

  Attributes:
    channels: of a pixel.
    op: what happens after.
  """

  channels: int
  op: Op = Op()

  def into(self, theirs):
    return self.op.into(self._turn(theirs, self.channels))

  def back(self, ours):
    theirs = self.op.back(ours)
    return self._turn(theirs, len(theirs) // self.channels)

  def _turn(self, x, first: int):
    split = x.reshape(first, -1, *x.shape[1:])
    return np.moveaxis(split, 1, 0).reshape(x.shape)

  def shapes(self, ours):
    return [s for s in self.op.shapes(ours) if s and s[0] % self.channels == 0]


@dataclasses.dataclass(frozen=True)
class RopePairs(Op):
  """Rotary pairs that are neighbours -> pairs that are half a head apart.

  Works on the first axis of theirs, [heads * width, ...], before `op`. The same
  permutation of queries, keys and the scales of their norms leaves attention as it is.

  Attributes:
    width: of a head; an even number.
    op: what happens after.
  """

  width: int
  op: Op = Op()

  def into(self, theirs):
    return self.op.into(self._turn(theirs, self.width // 2, 2))

  def back(self, ours):
    return self._turn(self.op.back(ours), 2, self.width // 2)

  def _turn(self, x, first: int, second: int):
    split = x.reshape(-1, first, second, *x.shape[1:])
    return np.moveaxis(split, 1, 2).reshape(x.shape)

  def shapes(self, ours):
    return [s for s in self.op.shapes(ours) if s and s[0] % self.width == 0]


@dataclasses.dataclass(frozen=True)
class Chunks(Op):
  """Theirs has the same equal parts along its first axis, in another order.

  Attributes:
    order: of their parts, as ours has them: (1, 0) swaps two.
    op: what happens after.
  """

  order: tuple[int, ...]
  op: Op = Op()

  def into(self, theirs):
    return self.op.into(self._take(theirs, self.order))

  def back(self, ours):
    return self._take(self.op.back(ours), np.argsort(self.order))

  def _take(self, x, order):
    parts = np.split(x, len(self.order))
    return np.concatenate([parts[i] for i in order])

  def shapes(self, ours):
    return [s for s in self.op.shapes(ours) if s and s[0] % len(self.order) == 0]


@dataclasses.dataclass(frozen=True)
class Part(Op):
  """Ours is one of several parts of theirs along its first axis (fused weights).

  All keys that take parts of one name are needed; a part is as long as its leaf is, so
  that grouped keys and values are narrower than queries.

  Attributes:
    number: place among the parts, from 0.
    op: what happens to the part.
  """

  number: int
  op: Op = Op()

  def into(self, theirs):
    return self.op.into(theirs)

  def back(self, ours):
    return self.op.back(ours)

  def shapes(self, ours):
    return self.op.shapes(ours)


class Whole(Op):
  """A whole number of theirs, such as a count of batches, which ours has as a float."""

  whole = "int64"

  def into(self, theirs):
    return np.asarray(theirs, np.float32)

  def back(self, ours):
    return np.asarray(np.rint(ours), np.int64)


COPY = Op()
WHOLE = Whole()
LINEAR = Linear()
CONV = Conv()
CONV_OR_LINEAR = Conv(linear=True)
