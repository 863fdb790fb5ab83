"""Law 9: the same batches on any number of processes and threads, and after a resume.

Beside `test_loader`, which reads whole batches of constant mixtures.
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from tests import small
from tests.data.test_loader import equal
from unijax.config import ConfigError
from unijax.data.ahead import Ahead, depth
from unijax.data.document import DataError
from unijax.data.loader import Loader
from unijax.types import Batch


def scenes(weight: float, seed: int, **tasks) -> dict:
  """A source that is quick to open."""
  options = {"num_documents": 50, "max_objects": 2, "grid": 2, "seed": seed}
  return {"kind": "scenes", "weight": weight, "options": {**options, "tasks": tasks}}


SOURCES = {
  "long": scenes(0.75, 0, ask=1.0, edit=1.0),
  "short": scenes(0.25, 1, draw=1.0),
}
SCHEDULE = {  # the short fade out, the long come and go
  "long": {**SOURCES["long"], "weight": 0.0, "schedule": [[3, 1.0], [9, 0.2]]},
  "short": {**SOURCES["short"], "weight": 1.0, "schedule": [[6, 0.3]]},
}
MIXTURES = {
  "constant": {},
  "step": {"data__mixture": "step", "data__sources": SCHEDULE},
  "linear": {"data__mixture": "linear", "data__sources": SCHEDULE},
}


def config(**knobs):
  return small.scenes(**{"data__sources": SOURCES, **knobs})


def joined(parts: list[Batch]) -> Batch:
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def read_part(loader, start, count, part):
  with loader.iterate(start, part) as batches:
    return list(itertools.islice(batches, count))


@pytest.fixture(scope="module", params=MIXTURES)
def whole(request):
  """(knobs, batches 0 to 11 of eight rows, read in order)."""
  knobs = {"train__batch_size": 8, **MIXTURES[request.param]}
  loader = Loader(config(**knobs))
  return knobs, [loader.batch(t) for t in range(12)]


@pytest.mark.parametrize("processes, threads", [(1, 0), (2, 1), (4, 8), (8, 0)])
def test_processes_read_the_batch_together(whole, processes, threads):
  knobs, batches = whole
  start = 3 + processes // 2  # as if resumed there
  parts = []
  for index in range(processes):
    loader = Loader(config(data__threads=threads, **knobs))
    parts.append(read_part(loader, start, 2, (index, processes)))
  for t, pieces in enumerate(zip(*parts, strict=True)):
    assert {len(p.tokens_BT) for p in pieces} == {8 // processes}
    assert equal(joined(pieces), batches[start + t])


def test_any_rows_of_the_batch(whole):
  knobs, batches = whole
  loader = Loader(config(**knobs))
  for rows in (range(3, 5), range(0, 8, 4), range(7, 8)):
    want = jax.tree.map(lambda x: x[list(rows)], batches[6])  # noqa: B023
    assert equal(loader.batch(6, rows), want)


def test_a_part_builds_its_own_rows_only(monkeypatch):
  loader = Loader(config(train__batch_size=8))
  built = []
  original = loader.builder.row
  monkeypatch.setattr(
    loader.builder, "row", lambda layouts: built.append(1) or original(layouts)
  )
  laid = []
  layout = loader.builder.layout
  monkeypatch.setattr(
    loader.builder, "layout",
    lambda document, key: laid.append(key) or layout(document, key),
  )  # fmt: skip
  for t in range(4):
    loader.batch(t, (2, 4))
  rows = [8 * t + i for t in range(4) for i in (4, 5)]
  assert len(built) == 8
  assert laid == [n for r in rows for n in loader.rows.plan.documents(r)]


@pytest.mark.parametrize("part", [(0, 3), (4, 4), (0, 0), range(7, 9), range(0)])
def test_parts_that_are_none(part):
  with pytest.raises(ConfigError, match="train.batch_size: 8 rows"):
    Loader(config(train__batch_size=8)).iterate(0, part)


def test_what_is_kept_of_documents_is_bounded():
  """Rows that other processes build are never asked for here."""
  loader = Loader(config(train__batch_size=8))
  for t in range(12):
    loader.batch(t, (0, 8))
  assert loader.rows.plan.planned > 5 * 16  # many windows
  assert len(loader.rows._read) <= 4 * config().data.window


# -- reading ahead -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 1, 8])
def test_an_error_reaches_the_reader_and_ends_the_reading(threads):
  def make(step):
    if step == 5:
      raise DataError(f"file x: step {step} is broken")
    return step

  def run():
    batches = Ahead(make, 2, threads, on_close=lambda: closed.append(1))
    got = [next(batches) for _ in range(3)]
    with pytest.raises(DataError, match="file x: step 5 is broken"):
      next(batches)
    with pytest.raises(StopIteration):
      next(batches)
    batches.close()
    return got

  closed, before = [], set(threading.enumerate())
  with ThreadPoolExecutor(1) as pool:
    assert pool.submit(run).result(timeout=60) == [2, 3, 4]
  assert closed == [1]
  assert {t for t in threading.enumerate() if t.name.startswith("rows")} <= before


def test_reading_ahead_is_bounded_in_order_and_stops():
  begun, release = [], threading.Event()

  def make(step):
    begun.append(step)
    if step == 0:
      release.wait(60)  # the first is the last to be there
    elif step == depth(3) - 1:
      release.set()
    return step

  with Ahead(make, 0, 3) as batches:
    assert [next(batches) for _ in range(4)] == [0, 1, 2, 3]
  assert max(begun) <= 3 + depth(3)
  count = len(begun)
  batches.close()
  assert len(begun) == count and list(batches) == []


def test_a_reader_that_is_dropped_leaves_no_thread():
  batches = Loader(config(data__threads=2)).iterate(0)
  next(batches)
  assert any(t.name.startswith("rows") for t in threading.enumerate())
  del batches
  assert not any(t.name.startswith("rows") for t in threading.enumerate())
