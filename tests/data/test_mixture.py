"""Laws of mixtures: shares follow the weights, and the place of reading changes nothing."""

import dataclasses
import json
import math
import random

import grain
import numpy as np
import pytest

from unijax.config import SourceConfig
from unijax.data import mixture
from unijax.data.document import DataError
from unijax.data.mixture import UNIT, Constant, Scheduled
from unijax.data.mixture_history import NAME, History, Segment, reweigh

WEIGHTS = [[1.0], [0.75, 0.25], [0.93, 0.06, 0.01], [1.0, 1.0], [0.3, 0.3, 0.2, 0.2]]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_constant_weights_keep_the_order_of_grain(weights):
  """Runs that are published were read in this order; no release may change it."""
  parts = [
    grain.MapDataset.range(10**6).map(lambda x, i=i: (i, x))
    for i in range(len(weights))
  ]
  mixed = grain.MapDataset.mix(parts, weights=[w / sum(weights) for w in weights])
  mine = Constant(weights)
  numbers = [*range(500), *random.Random(0).sample(range(900_000), 100)]
  assert [mine.locate(n) for n in numbers] == [mixed[n] for n in numbers]
  assert mine.begin(3, 7) == 0


@pytest.mark.parametrize("seed", range(10))
def test_scheduled_shares_follow_the_weights_within_a_document(seed):
  rng = random.Random(seed)
  sources, window = rng.randint(1, 5), rng.choice([3, 16, 50])
  chosen = [[rng.random() + 0.01 for _ in range(sources)] for _ in range(40)]
  mixed = Scheduled(lambda row: chosen[row], sources, window)
  want, seen = np.zeros(sources), [[] for _ in range(sources)]
  for number in range(40):
    mixed.begin(number, number)
    want += window * np.array(mixture.in_units(chosen[number])) / UNIT
    for place in range(number * window, (number + 1) * window):
      source, index = mixed.locate(place)
      seen[source].append(index)
    assert max(abs(want - [len(s) for s in seen])) < 1 + 1e-6
  for indices in seen:  # each source's own stream is read in order, none left out
    assert indices == list(range(len(indices)))


def test_documents_of_a_source_are_spread_over_the_window():
  mixed = Scheduled(lambda row: [3.0, 1.0], 2, 40)
  mixed.begin(0, 0)
  places = [n for n in range(40) if mixed.locate(n)[0] == 1]
  assert len(places) == 10 and set(np.diff(places)) <= {3, 4, 5}


def test_a_source_without_weight_gets_nothing_whatever_it_is_owed():
  mixed = Scheduled(lambda row: [1.0, 0.77, 0.0] if row < 2 else [1.0, 0.0, 0.3], 3, 7)
  for number in range(6):
    mixed.begin(number, number)
  found = [[mixed.locate(7 * w + k)[0] for k in range(7)] for w in range(6)]
  assert all(2 not in window for window in found[:2])
  assert all(1 not in window for window in found[2:])


def test_a_window_begun_again_is_the_same_and_others_are_not_known():
  mixed = Scheduled(lambda row: [1.0 + row, 1.0], 2, 8)
  marks = [mixed.begin(n, 5 * n) for n in range(3)]
  before = [mixed.locate(n) for n in range(24)]
  assert [mixed.begin(n, 99) for n in range(3)] == marks and len(set(marks)) == 3
  assert [mixed.locate(n) for n in range(24)] == before
  with pytest.raises(IndexError, match="window 3 is not planned"):
    mixed.locate(24)
  other = Scheduled(lambda row: [1.0 + 9 * row, 1.0], 2, 8)
  assert other.begin(0, 0) == marks[0] and other.begin(1, 5) != marks[1]


def test_schedules():
  entry = SourceConfig("a", "scenes", 2.0, {}, schedule=((10, 4.0), (20, 0.0)))
  at = lambda linear: [entry.weight_at(s, linear) for s in (0, 5, 9, 10, 15, 20, 99)]  # noqa: E731
  assert at(False) == [2.0, 2.0, 2.0, 4.0, 4.0, 0.0, 0.0]
  assert at(True) == [2.0, 3.0, pytest.approx(3.8), 4.0, 2.0, 0.0, 0.0]
  assert dataclasses.replace(entry, schedule=()).weight_at(7, True) == 2.0


def test_losses_above_their_reference_gain_weight():
  new = reweigh((0.5, 0.25, 0.25), (3.0, 2.0, 1.0), (1.0, 2.0, 5.0), 0.5, 0.0)
  # Only the first is above its reference, by 2 nats: e^(0.5 x 2) more.
  assert new[0] / new[1] == pytest.approx(2 * math.e) and new[1] == new[2]
  assert sum(new) == pytest.approx(1.0)
  floored = reweigh((0.5, 0.25, 0.25), (9e5, 2.0, 1.0), (0.0, 0.0, 0.0), 0.5, 0.3)
  assert floored == pytest.approx((0.8, 0.1, 0.1))
  assert reweigh((0.9, 0.1), (1.0, 1.0), (2.0, 3.0), 0.5, 0.0) == (0.9, 0.1)


def test_the_record_is_what_was_chosen(tmp_path):
  history = History((3.0, 1.0), "hash", tmp_path)
  assert history.weights(0) == history.weights(10**9) == (0.75, 0.25)
  history.add(Segment(5, 40, (0.5, 0.5), (1.0, 2.0)))
  history.add(Segment(10, 80, (0.2, 0.8), (1.0, 3.0)))
  read = History((3.0, 1.0), "hash", tmp_path)
  assert read.segments == history.segments
  rows = (0, 39, 40, 79, 80, 999)
  assert [read.weights(r)[1] for r in rows] == [0.25, 0.25, 0.5, 0.5, 0.8, 0.8]
  assert [read.has(step) for step in (4, 5, 6, 10, 11)] == [True] * 4 + [False]
  assert History((3.0, 1.0), "hash", None).segments == []


@pytest.mark.parametrize("damage", ["flip", "cut", "value", "list", "plan"])
def test_a_damaged_record_is_refused_and_named(tmp_path, damage):
  History((1.0, 1.0), "hash", tmp_path).add(Segment(5, 40, (0.5, 0.5), (1.0, 2.0)))
  path = tmp_path / NAME
  content = path.read_text()
  path.write_text(
    {
      "flip": content.replace('"', "x", 1), "cut": content[:30], "list": "[1]",
      "value": content.replace("0.5", "0.6", 1), "plan": content,
    }[damage]
  )  # fmt: skip
  message = "another plan" if damage == "plan" else "is damaged .*bring back"
  with pytest.raises(DataError, match=f"{NAME}: .*{message}"):
    History((1.0, 1.0), "other" if damage == "plan" else "hash", tmp_path)
  assert json.loads(content)["plan"] == "hash"
