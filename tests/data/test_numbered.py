"""Laws of batches of numbered items, of every loader of them."""

import jax
import numpy as np
import pytest

from unijax import config_file
from unijax.train import tasks

CONFIGS = ("ldm.py", "clip.py", "codecs/kl.py")


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
  options = ["--config.train.batch_size=8", "--config.data.threads=1"]
  return config_file.load([f"--config=configs/{request.param}:tiny", *options])


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batches_are_a_function_of_their_number_and_parts_make_the_whole(config):
  loader = tasks.make_loader(config)
  whole = loader.batch(3)
  parts = [loader.batch(3, (i, 2)) for i in range(2)]
  same(jax.tree.map(lambda *x: np.concatenate(x), *parts), whole)
  same(loader.batch(3, range(2, 5)), jax.tree.map(lambda x: x[2:5], whole))
  again = tasks.make_loader(config)
  with again.iterate(3, (1, 2)) as batches:
    same(next(batches), parts[1])
    same(next(batches), loader.batch(4, (1, 2)))
  assert again.plan_hash == loader.plan_hash
  assert tasks.make_loader(config, held_out=True).plan_hash != loader.plan_hash


def test_padding_of_a_batch_that_was_built_reads_nothing(config):
  loader, fresh = tasks.make_loader(config), tasks.make_loader(config)
  expected = [fresh.padding(t) for t in range(5)]  # nothing was built: reads
  with loader.iterate(0) as batches:
    next(batches)
    loader.batch(1)
    loader.stream = {}  # whatever is read now is missing
    assert [loader.padding(t) for t in range(2)] == expected[:2]
  assert (0 < min(expected) <= max(expected) < 1) == bool(loader.text_length)


def test_padding_counts_what_other_processes_read(config):
  whole, part = tasks.make_loader(config), tasks.make_loader(config)
  part.batch(2, (0, 2))
  assert part.padding(2) == whole.padding(2)


def test_padding_of_one_batch_is_never_that_of_another(config):
  loader, fresh = tasks.make_loader(config), tasks.make_loader(config)
  before = [loader.padding(t) for t in range(4)]
  for step in range(4, 16):
    assert loader.padding(step) == tasks.make_loader(config).padding(step)
  assert before == [fresh.padding(t) for t in range(4)]
