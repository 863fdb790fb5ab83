"""Laws of packing, and of finding a row by its number."""

import functools
import random

import pytest

from unijax.data.plan import Plan, pack

CAPACITY, MOST = 50, 5


def measure(number: int, longest: int = CAPACITY) -> tuple[int, int]:
  """(positions, images) of a document: any function of its number."""
  rng = random.Random(number)
  return rng.randint(1, longest), rng.randint(0, MOST)


@pytest.mark.parametrize("seed", range(20))
def test_every_document_stands_in_one_row_that_holds_it(seed):
  rng = random.Random(seed)
  longest = rng.choice([5, 20, CAPACITY])
  sizes = [measure(1000 * seed + i, longest) for i in range(rng.randint(1, 60))]
  lengths, images = zip(*sizes, strict=True)
  rows = pack(lengths, images, CAPACITY, MOST)
  assert sorted(n for row in rows for n in row) == list(range(len(sizes)))
  for row in rows:
    assert row and sum(lengths[n] for n in row) <= CAPACITY
    assert sum(images[n] for n in row) <= MOST


def test_rows_are_well_filled():
  lengths = [random.Random(i).randint(3, 30) for i in range(400)]
  rows = pack(lengths, [0] * 400, CAPACITY, MOST)
  assert sum(lengths) / (len(rows) * CAPACITY) > 0.97
  # No two rows could be one: best fit would have joined them.
  used = sorted(sum(lengths[n] for n in row) for row in rows)
  assert used[0] + used[1] > CAPACITY


def test_images_open_a_row_of_their_own():
  assert len(pack([1] * 4, [MOST] * 4, CAPACITY, MOST)) == 4
  assert pack([10, 20], [MOST, 0], CAPACITY, MOST) == [[1, 0]]


def plan(seed: int = 0, window: int = 16, calls: list | None = None) -> Plan:
  def counted(number):
    if calls is not None:
      calls.append(number)
    return measure(number)

  return Plan(counted, window, CAPACITY, MOST, seed)


@functools.cache
def in_order(n: int = 120):
  made = plan()
  return [made.documents(i) for i in range(n)]


def test_the_stream_is_packed_window_by_window():
  rows, window, expected = in_order(), 0, set()
  for row in rows:
    if not expected:
      expected = set(range(16 * window, 16 * window + 16))
      window += 1
    assert set(row) <= expected
    expected -= set(row)
  assert window > 5


@pytest.mark.parametrize("seed", range(3))
def test_any_order_finds_the_same_rows(seed):
  made, numbers = plan(), list(range(120))
  random.Random(seed).shuffle(numbers)
  assert {i: made.documents(i) for i in numbers} == dict(enumerate(in_order()))
  assert plan().documents(119) == in_order()[119]


def test_seeds_shuffle_the_rows_of_a_window_and_change_no_row():
  def first_window(seed):
    made, rows, documents = plan(seed), [], 0
    while documents < 16:
      rows.append(tuple(made.documents(len(rows))))
      documents += len(rows[-1])
    return rows

  orders = {tuple(first_window(seed)) for seed in range(5)}
  assert len(orders) > 1
  assert len({frozenset(order) for order in orders}) == 1


def test_reading_on_measures_every_document_once_and_keeps_little():
  calls = []
  made = plan(calls=calls)
  for i in range(120):
    made.documents(i)
  assert len(calls) == len(set(calls))
  assert len(made._kept) <= 3
  assert 0 <= made.padding < 1
