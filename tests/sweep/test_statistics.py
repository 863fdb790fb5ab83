"""Intervals and differences are scipy's; fronts are what their definition says."""

import itertools

import numpy as np
import pytest
from scipy import stats

from unijax.sweep import statistics


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_students(n):
  values = np.random.default_rng(n).normal(0.7, 0.1, n)
  found = statistics.interval(list(values))
  low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
  assert found.ends == pytest.approx((low, high), rel=1e-12)
  assert (found.mean, found.n) == (pytest.approx(values.mean()), n)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_difference_is_paired(n):
  rng = np.random.default_rng(n)
  seeds = rng.normal(0, 1, n)  # what a seed does to both, far more than the difference
  one, other = seeds + rng.normal(0.02, 0.01, n), seeds
  as_dict = lambda x: dict(enumerate(x.tolist()))
  found = statistics.paired(as_dict(one), as_dict(other))
  wanted = stats.ttest_rel(one, other).confidence_interval(0.95)
  assert found.ends == pytest.approx((wanted.low, wanted.high), rel=1e-9)
  assert found.half < statistics.interval(list(one)).half / 5
  shuffled = dict(reversed(as_dict(one).items()))
  assert statistics.paired(shuffled, as_dict(other)) == found, "by seed, not by order"


def test_only_seeds_of_both_are_paired():
  found = statistics.paired({0: 1.0, 1: 2.0, 2: 9.0}, {1: 1.5, 0: 0.0, 7: 3.0})
  assert (found.mean, found.n) == (0.75, 2)
  assert statistics.paired({0: 1.0}, {1: 1.0}) is None


def test_one_run_has_no_interval_and_none_no_mean():
  found = statistics.interval([0.5])
  assert (found.mean, found.half, found.ends, found.n) == (0.5, None, None, 1)
  assert statistics.interval([]) is None
  assert statistics.interval([0.5, 0.5]).half == 0.0


def test_intervals_cover_the_mean_as_often_as_they_say():
  draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 3))
  ends = [statistics.interval(list(row)).ends for row in draws]
  share = np.mean([low <= 3.0 <= high for low, high in ends])
  assert abs(share - 0.95) < 0.012  # 3.5 standard errors


def test_the_front_is_what_nothing_beats():
  rng = np.random.default_rng(1)
  for _ in range(200):
    some = [tuple(map(float, p)) for p in rng.integers(0, 6, (7, 2))]
    beats = lambda a, b: a != b and a[0] <= b[0] and a[1] >= b[1]
    wanted = {
      i for i, p in enumerate(some) if not any(beats(other, p) for other in some)
    }
    found = statistics.front(some)
    assert set(found) == wanted
    costs = [some[i][0] for i in found]
    assert costs == sorted(costs)
  for order in itertools.permutations([(1.0, 1.0), (1.0, 1.0), (2.0, 1.0)]):
    assert sorted(order[i] for i in statistics.front(order)) == [(1.0, 1.0)] * 2
  assert statistics.front([]) == []
