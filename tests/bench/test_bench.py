"""The bench compares like with like: directions, counted work, and the workload."""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench():
  """The bench's modules, which run as scripts and find each other by their folder."""
  folder = str(pathlib.Path(__file__).parent)
  sys.path.insert(0, folder)
  try:
    import ours
    import released
    import released_work
    import rounds
    import run

    yield argparse.Namespace(
      ours=ours, released=released, released_work=released_work, rounds=rounds, run=run
    )
  finally:
    sys.path.remove(folder)


def test_both_sides_read_the_same_workload(bench):
  work = bench.rounds.Workload(width=96, solver=3)
  parser = argparse.ArgumentParser()
  bench.rounds.add_arguments(parser)
  assert bench.rounds.parse(parser.parse_args(work.arguments())) == work


def test_a_ratio_above_one_is_faster_for_rates_and_for_times(bench):
  about = {"train_gflop_per_row": 2.0}
  results = {
    "train": [(10.0, 5.0), (9.0, 3.0), (8.0, 8.0)],  # rows per second
    "sample_1": [(1.0, 2.0), (2.0, 2.0), (1.0, 4.0)],  # seconds
    "matmul": [(100.0, None)] * 3,
  }
  summary = bench.run.summarize(results, about, about)
  assert summary["train"]["ratio"] == {"min": 1.0, "median": 2.0, "max": 3.0}
  assert summary["sample_1"]["ratio"] == {"min": 1.0, "median": 2.0, "max": 4.0}
  assert summary["share_of_matmul"]["ours"]["median"] == pytest.approx(0.18)
  assert "ratio" not in summary["matmul"]
  assert bench.run.table(summary).count("ratio") == 2


def test_counts_matrix_products_through_loops_and_gradients(bench):
  w = jnp.ones((8, 8))

  def layers(x):
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

  forward = jax.make_jaxpr(jax.jit(layers))(jnp.ones((3, 8)))
  assert bench.ours.matmul_flops(forward.jaxpr) == 5 * 2 * 3 * 8 * 8
  grad = jax.make_jaxpr(jax.grad(lambda x: layers(x).sum()))(jnp.ones((3, 8)))
  assert bench.ours.matmul_flops(grad.jaxpr) == 2 * 5 * 2 * 3 * 8 * 8
  heads = jax.make_jaxpr(lambda q, k: jnp.einsum("bqhk,bshk->bhqs", q, k))(
    jnp.ones((2, 3, 4, 5)), jnp.ones((2, 6, 4, 5))
  )
  assert bench.ours.matmul_flops(heads.jaxpr) == 2 * 2 * 4 * 3 * 6 * 5


def test_a_row_is_exactly_as_long_as_asked(bench):
  work = bench.rounds.Workload(width=32, depth=1, heads=2, length=200, batch=2)
  config = bench.ours.make_config(work)
  builder = bench.ours.RowBuilder(config, bench.ours.make_tokenizer("bytes"))
  batch = bench.ours.train_batch(work, config, builder)
  assert batch.tokens_BT.shape == (2, 200)
  assert (batch.segment_BT == 1).all()
  assert ((batch.patch_BT >= 0).sum(axis=1) == work.images * work.patches).all()
  assert np.unique(batch.image_key_BT[batch.span_BT >= 0]).size == 2 * work.images


def test_knows_whether_the_machine_is_in_use(bench):
  assert 0.0 <= bench.run.busy_share(0.05) <= 1.0


# -- released models -----------------------------------------------------------------------


def test_both_sides_of_a_release_read_the_same_work(bench):
  Work = bench.released_work.Work
  work = Work(folder="there", width=96, guidance=3)
  parser = argparse.ArgumentParser()
  bench.rounds.add_arguments(parser, Work)
  assert bench.rounds.parse(parser.parse_args(work.arguments()), Work) == work
  ids = work.prompts(8, 16)
  assert ids.min() >= bench.released_work.FIRST and ids.max() < work.first_code
  assert (ids == work.prompts(8, 16)).all() and len(np.unique(ids)) > 100


def test_nothing_is_measured_where_the_sides_wrote_other_ids(bench):
  ours = {"wrote": {"text_1": [5, 6, 7], "image": [1, 2]}}
  check = bench.released.check_same
  assert check(ours, ours) == {"text_1": 3, "image": 2}
  for other, at in (([5, 9, 7], 1), ([5, 6], 2)):
    with pytest.raises(SystemExit, match=f"text_1: id {at} differs"):
      check(ours, {"wrote": {**ours["wrote"], "text_1": other}})


def test_a_ratio_above_one_is_a_release_that_runs_faster_here(bench):
  pairs = {"prefill": [(1.0, 2.0), (2.0, 1.0), (1.0, 4.0)]}
  found = bench.released.summarize(pairs)
  assert found["prefill"]["ratio"] == {"min": 0.5, "median": 2.0, "max": 4.0}
  assert bench.released.table(found, {"prefill": 1}).count("ratio") == 1
