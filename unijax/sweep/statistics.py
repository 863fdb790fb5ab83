"""Means over seeds with their intervals, paired differences, and Pareto fronts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean of a few runs.

  Attributes:
    mean: of them.
    half: half the width of its 95 % interval; None of a single run, which tells nothing
      of what another seed would have given.
    n: how many runs.
  """

  mean: float
  half: float | None
  n: int

  @property
  def ends(self) -> tuple[float, float] | None:
    """(low, high) of the interval, if there is one."""
    return None if self.half is None else (self.mean - self.half, self.mean + self.half)


def interval(values: Sequence[float]) -> Estimate | None:
  """The mean and its two-sided 95 % interval by Student's t with n - 1 degrees.

  half = t(0.975, n - 1) s / sqrt(n), where s^2 is the sum of squares over n - 1. It
  takes the runs for independent and their scatter for normal. None of no values.
  """
  n = len(values)
  if not n:
    return None
  mean = float(np.mean(values))
  if n == 1:
    return Estimate(mean, None, 1)
  quantile = float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
  return Estimate(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n), n)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Estimate | None:
  """The mean of one - other over the seeds that both have, with its interval.

  Runs of one seed read the same data in the same order and begin alike where shapes
  allow it, so that what a seed does to both falls out of the difference.
  """
  both = sorted(set(one) & set(other))
  return interval([one[seed] - other[seed] for seed in both])


def front(points: Sequence[tuple[float, float]]) -> list[int]:
  """Which points no other beats: less cost and no less value, or more value at no more.

  Args:
    points: (cost, value) of each, where less cost and more value are better.

  Returns:
    Their numbers by rising cost; equal points are all in it.
  """
  kept: list[int] = []
  for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
    cost, value = points[i]
    if not kept or value > points[kept[-1]][1] or points[kept[-1]] == (cost, value):
      kept.append(i)
  return kept
