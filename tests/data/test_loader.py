"""Laws 9 and 8 of the data: batch t is a function of the config and t alone."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from tests import small
from unijax.config import ConfigError
from unijax.data.document import DataError
from unijax.data.loader import Loader
from unijax.types import Batch

SOURCES = {
  "scenes": {
    "kind": "scenes", "weight": 0.75,
    "options": {"num_documents": 50, "max_objects": 2, "grid": 2,
                "tasks": {"draw": 1.0, "ask": 1.0, "edit": 1.0}},
  },
  "corpus": {"kind": "corpus", "weight": 0.25, "options": {"max_bytes": 120}},
}  # fmt: skip


def config(**knobs):
  return small.scenes(**{"data__sources": SOURCES, **knobs})


def equal(one: Batch, other: Batch) -> bool:
  return all(
    np.array_equal(getattr(one, f.name), getattr(other, f.name))
    for f in dataclasses.fields(Batch)
  )


def read(loader: Loader, start: int, count: int) -> list[Batch]:
  batches = loader.iterate(start)
  try:
    return list(itertools.islice(batches, count))
  finally:
    batches.close()


@pytest.fixture(scope="module")
def loader() -> Loader:
  return Loader(config())


@pytest.fixture(scope="module")
def first_batches(loader) -> list[Batch]:
  return read(loader, 0, 12)


def test_batches_are_what_they_say(first_batches):
  c = config()
  for batch in first_batches:
    assert batch.tokens_BT.shape == (c.train.batch_size, c.data.seq_len)
    for row in range(c.train.batch_size):
      segments = batch.segment_BT[row]
      used = segments[segments > 0]
      assert (np.diff(used) >= 0).all() and (np.diff(used) <= 1).all()
      assert (segments[len(used) :] == 0).all() and used[0] == 1
      images = batch.span_BT[row][batch.span_BT[row] >= 0]
      assert (
        (batch.patch_BT[row] == 0).sum() == len(set(images)) <= c.data.images_per_row
      )
  text = np.concatenate([b.text_weight_BT for b in first_batches])
  image = np.concatenate([b.image_weight_BT for b in first_batches])
  assert 0.1 < text.mean() < 0.8 and image.mean() > 0.02


@pytest.mark.parametrize("start", [0, 1, 7])
def test_reading_from_a_step_on_is_the_rest_of_the_sequence(
  loader, first_batches, start
):
  for one, other in zip(read(loader, start, 5), first_batches[start:], strict=False):
    assert equal(one, other)
  fresh = Loader(config())
  assert equal(fresh.batch(start), first_batches[start])
  assert equal(read(fresh, start, 1)[0], first_batches[start])


def test_batches_differ(first_batches):
  for one, other in itertools.combinations(first_batches, 2):
    assert not equal(one, other)


def test_threads_do_not_matter(first_batches):
  many = Loader(config(data__threads=8))
  for one, other in zip(read(many, 0, 12), first_batches, strict=True):
    assert equal(one, other)


def test_batch_size_cuts_the_same_rows_otherwise(first_batches):
  wide = Loader(config(train__batch_size=4)).batch(1)
  two = jax.tree.map(lambda *x: np.concatenate(x), *first_batches[2:4])
  assert equal(wide, two)


def test_seed_and_split_decide(first_batches):
  assert not equal(Loader(config(seed=1)).batch(0), first_batches[0])
  held_out = Loader(config(), held_out=True)
  assert not equal(held_out.batch(0), first_batches[0])


def test_the_mixture_is_kept_and_each_source_is_read_through():
  stream = Loader(config()).stream
  read_ = [stream[i] for i in range(200)]
  scenes = [document.id for document, name in read_ if name == "scenes"]
  assert abs(len(scenes) / 200 - 0.75) < 0.02
  for epoch in range(len(scenes) // 50):  # every document once, in another order
    ids = scenes[50 * epoch : 50 * epoch + 50]
    assert sorted(ids) == list(range(50)) != ids
  assert scenes[:50] != scenes[50:100]


def test_every_document_of_the_stream_is_in_one_row_of_one_batch(loader):
  c = config()
  rows = [loader.rows.plan.documents(i) for i in range(24)]
  numbers = sorted(n for row in rows for n in row)
  assert len(numbers) == len(set(numbers))
  window = c.data.window
  complete = len(numbers) // window * window  # of the windows that were read through
  done = [n for n in numbers if n < complete - window]
  assert done == list(range(len(done))) and len(done) >= window


def test_a_source_of_weight_zero_is_not_read():
  sources = {**SOURCES, "corpus": {**SOURCES["corpus"], "weight": 0.0}}
  stream = Loader(config(data__sources=sources)).stream
  assert {stream[i][1] for i in range(50)} == {"scenes"}


@pytest.mark.parametrize("how", ["batch", "iterate"])
def test_a_document_that_does_not_fit_names_its_source_and_the_knob(how):
  loader = Loader(config(data__seq_len=40))
  message = (
    r"(?s)source '\w+': document \d+ \(\w+\) needs \d+ positions, "
    r"more than data.seq_len=40: raise data.seq_len or shorten"
  )
  with pytest.raises(DataError, match=message):
    loader.batch(0) if how == "batch" else read(loader, 0, 1)


def test_too_many_images_of_a_document():
  scenes = {**SOURCES["scenes"], "options": {**SOURCES["scenes"]["options"],
                                             "tasks": {"edit": 1.0}}}  # fmt: skip
  loader = Loader(config(data__images_per_row=1, data__sources={"scenes": scenes}))
  with pytest.raises(DataError, match=r"has 2 images, more than data.images_per_row=1"):
    loader.batch(0)


def test_unknown_kinds_and_options_are_named():
  wrong = {"scenes": {**SOURCES["scenes"], "kind": "scene"}}
  with pytest.raises(
    ConfigError, match=r"kind: unknown 'scene' .did you mean 'scenes'"
  ):
    Loader(config(data__sources=wrong))
  wrong = {"s": {**SOURCES["scenes"], "options": {"gird": 2, "max_object": 3}}}
  with pytest.raises(ConfigError) as error:
    Loader(config(data__sources=wrong))
  assert "data.sources.s.options.gird: unknown (did you mean 'grid'?)" in str(
    error.value
  )
  assert "max_object: unknown (did you mean 'max_objects'?)" in str(error.value)
