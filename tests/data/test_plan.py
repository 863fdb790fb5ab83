"""Laws of packing, and of finding a row by its number."""

import functools
import random
import threading

import pytest

from unijax.data.document import DataError
from unijax.data.plan import Plan, Windows, pack
from unijax.data.plan_cache import NAME, PlanCache

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


def restored(known: Windows, calls: list, begin=lambda number, row: 0) -> Plan:
  made = plan(calls=calls)
  made.begin = begin
  made.restore(known, "some file")
  return made


def test_a_far_row_measures_one_window_when_the_others_are_known():
  first = plan()
  first.documents(119)
  calls = []
  made = restored(first.windows, calls)
  assert made.documents(119) == in_order()[119]
  assert len(calls) == 16
  assert made.planned == first.planned and made.padding == first.padding
  assert [made.documents(i) for i in range(120)] == in_order()


def test_windows_hold_as_long_as_the_mixture_begins_them_alike():
  first = plan()
  first.begin = lambda number, row: number**2
  first.documents(119)
  begun = []
  begin = lambda number, row: begun.append((number, row)) or min(number, 2) ** 2  # noqa: E731
  made = restored(first.windows, [], begin)
  assert len(made.windows) == 3 and made.windows.marks == [0, 1, 4]
  starts = [sum(first.windows.rows[:n]) for n in range(4)]
  assert begun == list(enumerate(starts))


@pytest.mark.parametrize("wrong", ["rows", "used"])
def test_known_windows_that_are_not_so_are_found_when_read(wrong):
  first = plan()
  first.documents(119)
  getattr(first.windows, wrong)[2] += 1
  made = restored(first.windows, [])
  made.documents(0)
  with pytest.raises(DataError, match="window 2 .*from some file.*has changed"):
    made.documents(sum(first.windows.rows[:2]))


def test_padding_until_a_row_does_not_depend_on_what_is_planned():
  made, shares = plan(), []
  for row in range(120):
    made.documents(row)
    shares.append(made.padding_until(row))
    assert shares[-1] == made.padding
  assert [made.padding_until(row) for row in range(120)] == shares
  assert len(set(shares)) == len(made.windows)
  with pytest.raises(IndexError, match="not planned"):
    made.padding_until(made.planned)
  empty = sum(CAPACITY - sum(n for n, _ in made.sizes(r)) for r in range(made.planned))
  assert made.padding == pytest.approx(empty / made.planned / CAPACITY)


def test_sizes_are_those_of_the_documents_in_the_row():
  made = plan()
  for row in (0, 40, 3):
    assert made.sizes(row) == [measure(n) for n in made.documents(row)]


def test_a_failure_leaves_the_plan_usable():
  made = plan()
  good, made.measure = made.measure, lambda number: 1 / 0
  with pytest.raises(ZeroDivisionError):
    made.documents(5)
  made.measure = good
  assert made.documents(5) == in_order()[5]


def test_reading_backwards_keeps_little():
  made = plan()
  for row in reversed(range(120)):
    assert made.documents(row) == in_order()[row]
  assert len(made._kept) <= 3


def windows(count: int) -> Windows:
  return Windows([7] * count, [300] * count, list(range(count)))


def test_windows_on_disk(tmp_path, caplog):
  folder = tmp_path / "deep" / "plan"
  cache = PlanCache(folder, "one")
  assert cache.read() == Windows()
  cache.save(windows(2))  # a moment ago: not yet
  assert not folder.exists()
  cache.save(windows(3), now=True)
  assert PlanCache(folder, "one").read() == windows(3)
  assert [p.name for p in folder.iterdir()] == [NAME]
  assert not caplog.records
  assert PlanCache(folder, "two").read() == Windows()
  assert "was made for another plan" in caplog.text


def test_nothing_new_writes_nothing(tmp_path):
  cache = PlanCache(tmp_path, "one")
  cache.save(windows(3), now=True)
  written = (tmp_path / NAME).stat().st_mtime_ns
  again = PlanCache(tmp_path, "one")
  again.read()
  again.save(windows(3), now=True)
  assert (tmp_path / NAME).stat().st_mtime_ns == written
  again.forget()
  again.save(windows(2), now=True)
  assert PlanCache(tmp_path, "one").read() == windows(2)


def test_many_writers_leave_a_whole_file(tmp_path):
  def write(count):
    PlanCache(tmp_path, "one").save(windows(count), now=True)

  threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 17)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  read = PlanCache(tmp_path, "one").read()
  assert read == windows(len(read)) and len(read) > 0
  assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, caplog):
  (tmp_path / "file").write_text("in the way")
  cache = PlanCache(tmp_path / "file", "one")
  cache.save(windows(3), now=True)
  assert "cannot be written" in caplog.text
  (tmp_path / "file").unlink()
  cache.save(windows(3), now=True)
  assert PlanCache(tmp_path / "file", "one").read() == windows(3)
