"""Laws of a run directory: what is saved comes back, what is wrong is named."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.checkpoint import fits, rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.config import CheckpointConfig
from unijax.types import TrainState

SHAPES = {"a": (3, 4), "b": {"c": (5,)}}


def state(seed: int) -> TrainState:
  """A small TrainState of random numbers."""
  keys = iter(jax.random.split(jax.random.key(seed), 6))
  tree = lambda: jax.tree.map(  # noqa: E731
    lambda s: jax.random.normal(next(keys), s),
    SHAPES,
    is_leaf=lambda x: type(x) is tuple,
  )
  return TrainState(
    jnp.int32(seed), tree(), tree(), {"mu": tree()}, jnp.array([1, seed], jnp.uint32)
  )


def options(**knobs) -> CheckpointConfig:
  return dataclasses.replace(small.config().checkpoint, **knobs)


ABSTRACT = fits.abstract_state(lambda: state(0))


def equal(one, other) -> bool:
  leaves = jax.tree.map(
    lambda a, b: a.dtype == b.dtype and bool((a == b).all()), one, other
  )
  return all(jax.tree.leaves(leaves))


@pytest.fixture
def workdir(tmp_path):
  """A run directory with steps 2, 3 and 5; at most three are kept."""
  store = Store(tmp_path, options(keep=3))
  for step in (1, 2, 3, 5):
    store.save(state(step), step)
  store.wait()
  assert store.steps() == [2, 3, 5]
  store.close()
  rundir.write_config(tmp_path, small.config(), {"versions": {"x": "1"}})
  return tmp_path


def test_what_is_saved_comes_back(workdir):
  store = Store(workdir, read_only=True)
  assert equal(store.restore(ABSTRACT), state(5))
  assert equal(store.restore(ABSTRACT, 2), state(2))
  store.close()


def test_reading_changes_nothing(workdir):
  (workdir / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir()
  before = sorted(workdir.rglob("*"))
  store = Store(workdir, options(keep=1), read_only=True)
  store.restore(ABSTRACT)
  store.close()
  assert sorted(workdir.rglob("*")) == before


def test_what_is_not_there(workdir, tmp_path):
  store = Store(workdir, read_only=True)
  with pytest.raises(
    CheckpointError, match=r"has not step 4: it has steps \[2, 3, 5\]"
  ):
    store.restore(ABSTRACT, 4)
  store.close()
  with pytest.raises(CheckpointError, match="holds no run .*unijax train --config"):
    Store(tmp_path / "none", read_only=True)
  assert not (tmp_path / "none").exists()
  empty = Store(tmp_path / "empty")
  with pytest.raises(CheckpointError, match="has not a checkpoint: it has none yet"):
    empty.restore(ABSTRACT)
  empty.close()


def test_a_state_of_another_shape_is_refused_and_nothing_is_touched(workdir):
  wider = ABSTRACT.replace(
    params={**ABSTRACT.params, "a": jax.ShapeDtypeStruct((3, 5), jnp.float32)}
  )
  longer = ABSTRACT.replace(params={**ABSTRACT.params, "d": ABSTRACT.params["a"]})
  halved = ABSTRACT.replace(step=jax.ShapeDtypeStruct((), jnp.int16))
  store = Store(workdir, options())
  before = sorted(workdir.rglob("*"))
  for abstract, line in (
    (wider, r"params.a: float32\[3, 4\] there, float32\[3, 5\] here"),
    (longer, r"params.d: nothing there, float32\[3, 4\] here"),
    (halved, r"step: int32\[\] there, int16\[\] here"),
  ):
    with pytest.raises(
      CheckpointError, match=f"5 is whole, but does not fit .*\n  {line}"
    ):
      store.restore(abstract)
  store.close()
  assert sorted(workdir.rglob("*")) == before


def test_saving_where_nothing_can_be_written(tmp_path):
  (tmp_path / "run").write_text("a file where the directory should be")
  with pytest.raises(CheckpointError, match=r"could not save .*run: .*other --workdir"):
    Store(tmp_path / "run")


def test_config_json_is_enough_to_run_again(workdir):
  assert rundir.read_config(workdir) == small.config()
  content = json.loads((workdir / "config.json").read_text())
  assert content["versions"] == {"x": "1"}
  assert not list(workdir.glob("*.tmp"))


def test_only_knobs_that_decide_no_number_may_change(workdir):
  c = small.config()
  rundir.check_same_run(workdir, c)
  free = dataclasses.replace(c.train, log_every=3, eval_every=3, sample_every=3)
  sample = dataclasses.replace(c.sample, steps=99, guidance=9.0)
  same = dataclasses.replace(
    c, train=free, sample=sample, checkpoint=options(keep=9, every_steps=3)
  )
  rundir.check_same_run(workdir, same)
  assert rundir.config_hash(same) == rundir.config_hash(c)
  other = dataclasses.replace(
    c, seed=1, train=dataclasses.replace(free, batch_size=3),
    model=dataclasses.replace(c.model, width=48),
  )  # fmt: skip
  assert rundir.config_hash(other) != rundir.config_hash(c)
  with pytest.raises(CheckpointError) as error:
    rundir.check_same_run(workdir, other)
  lines = [x.strip() for x in str(error.value).splitlines()[1:-1]]
  assert lines == ["model.width: 32 -> 48", "seed: 0 -> 1", "train.batch_size: 2 -> 3"]


def test_abstract_state_allocates_nothing_and_fits():
  assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(ABSTRACT))
  shapes = jax.tree.map(np.shape, state(0))
  assert jax.tree.map(lambda x: x.shape, ABSTRACT) == shapes
