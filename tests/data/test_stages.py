"""Laws of the data of stages: a boundary is exact, and batch t a function of t alone."""

import json

import numpy as np
import pytest

from tests import small
from tests.data.test_loader import equal, read
from tests.data.test_plan import CAPACITY, MOST, measure
from unijax.config import Config, from_config_dict, to_dict
from unijax.data.loader import Loader
from unijax.data.plan import Plan

OPTIONS = {"num_documents": 50, "max_objects": 1, "grid": 2}
SOURCES = {
  "pictures": {"kind": "scenes", "weight": 1.0,
               "options": {**OPTIONS, "tasks": {"draw": 1.0}}},
  "questions": {"kind": "scenes", "weight": 1.0,
                "options": {**OPTIONS, "tasks": {"ask": 1.0}}},
  "corpus": {"kind": "corpus", "weight": 0.0, "options": {"max_bytes": 60}},
}  # fmt: skip
FIRST, SECOND = 3, 4  # steps


def only(**sources) -> dict:
  """A stage's data: these entries; sources that are not named get no documents."""
  entries = {name: sources.get(name, {"weight": 0.0}) for name in SOURCES}
  return {"sources": entries}


def config(first: dict, second: dict, **knobs) -> Config:
  values = to_dict(small.scenes(data__sources=SOURCES, **knobs))
  values["train"].update(stages=["first", "second"], steps=0)
  values["stages"] = {
    "first": {"steps": FIRST, "data": first}, "second": {"steps": SECOND, "data": second},
  }  # fmt: skip
  return from_config_dict(json.loads(json.dumps(values)))


def names(loader: Loader, step: int) -> set[str]:
  """Sources of the documents of a batch."""
  size = loader.config.train.batch_size
  return {
    loader.stream.name(number)
    for row in range(step * size, (step + 1) * size)
    for number in loader.rows.plan.documents(row)
  }


@pytest.mark.parametrize("breaks", [[1], [7], [5, 6, 40], [16, 200]])
def test_a_break_begins_a_window(breaks):
  whole = Plan(measure, 16, CAPACITY, MOST, 0)
  cut = Plan(measure, 16, CAPACITY, MOST, 0, breaks=breaks)
  rows = [cut.documents(row) for row in range(120)]
  starts = np.cumsum([0, *cut.windows.rows])
  assert set(breaks) - {200} <= set(starts)
  for row, documents in enumerate(rows):  # each row is one of its window's
    window = documents[0] // 16
    assert starts[window] <= row < starts[window + 1]
    place = row - starts[window] + sum(whole.windows.rows[:window])
    assert documents == whole.documents(place)
  used = sum(n for row in range(cut.planned) for n, _ in cut.sizes(row))
  assert cut.padding == pytest.approx(1 - used / cut.planned / CAPACITY)


def test_each_stage_reads_its_own_documents_from_its_first_row_on():
  loader = Loader(config(only(pictures={"weight": 1.0}), only(corpus={"weight": 2.0})))
  seen = [names(loader, step) for step in range(FIRST + SECOND)]
  assert seen == [{"pictures"}] * FIRST + [{"corpus"}] * SECOND
  assert [e.name for e in loader.entries] == ["corpus", "pictures"]  # of three


def test_a_batch_is_the_same_from_wherever_reading_begins(tmp_path):
  c = config(only(pictures={"weight": 1.0}), only(pictures={"weight": 1.0},
                                                  questions={"weight": 3.0}))  # fmt: skip
  loader = Loader(c, folder=tmp_path)
  batches = read(loader, 0, FIRST + SECOND)
  for start in range(FIRST + SECOND):
    fresh = Loader(c, folder=tmp_path if start % 2 else None)
    assert equal(fresh.batch(start), batches[start]), start
  assert {n for s in range(FIRST, FIRST + SECOND) for n in names(loader, s)} == {
    "pictures", "questions"
  }  # fmt: skip


def test_stages_that_change_no_weights_read_as_if_there_were_none():
  weights = {"questions": {"weight": 1.0}, "pictures": {"weight": 2.0}}
  c = config(only(**weights), only(**weights))
  staged, plain = Loader(c), Loader(c.at(1))
  assert staged.plan_hash == plain.plan_hash
  for step in (0, FIRST, FIRST + 1):
    assert equal(staged.batch(step), plain.batch(step))


def test_factors_of_losses_are_those_of_the_source_and_the_stage():
  loud = {"pictures": {"weight": 1.0, "text_loss": 0.5, "image_loss": 0.0},
          "questions": {"weight": 1.0}}  # fmt: skip
  plain = {"pictures": {"weight": 1.0}, "questions": {"weight": 1.0}}
  c = config(only(**plain), only(**loud))
  changed, unchanged = Loader(c), Loader(config(only(**plain), only(**plain)))
  assert changed.plan_hash != unchanged.plan_hash
  for step in range(FIRST + 2):
    one, other = changed.batch(step), unchanged.batch(step)
    text, image = other.text_weight_BT.copy(), other.image_weight_BT.copy()
    if step >= FIRST:
      for b in range(c.train.batch_size):
        numbers = changed.rows.plan.documents(step * c.train.batch_size + b)
        for segment, number in enumerate(numbers, 1):
          if changed.stream.name(number) == "pictures":
            text[b][other.segment_BT[b] == segment] *= 0.5
            image[b][other.segment_BT[b] == segment] = 0.0
      assert 0 < image.sum() < other.image_weight_BT.sum() or image.sum() == 0
    assert np.array_equal(one.text_weight_BT, text)
    assert np.array_equal(one.image_weight_BT, image)
    assert np.array_equal(one.tokens_BT, other.tokens_BT)
  assert text.sum() < other.text_weight_BT.sum()


def test_held_out_documents_are_the_same_in_every_stage():
  c = config(only(pictures={"weight": 1.0}), only(corpus={"weight": 1.0}))
  base = from_config_dict(
    {**to_dict(c), "stages": {}, "train": {**to_dict(c)["train"], "stages": ()}}
  )
  staged, plain = Loader(c, held_out=True), Loader(base, held_out=True)
  assert all(equal(staged.batch(s), plain.batch(s)) for s in (0, FIRST + 1))
