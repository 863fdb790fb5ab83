"""Laws of a run directory: what is saved comes back, what is wrong is named."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.checkpoint.states import ABSTRACT, equal, options, state
from unijax.checkpoint import integrity, rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store


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
    params={**ABSTRACT.params, "a": jax.ShapeDtypeStruct((4, 9), jnp.float32)}
  )
  longer = ABSTRACT.replace(params={**ABSTRACT.params, "d": ABSTRACT.params["a"]})
  halved = ABSTRACT.replace(step=jax.ShapeDtypeStruct((), jnp.int16))
  store = Store(workdir, options())
  before = sorted(workdir.rglob("*"))
  for abstract, line in (
    (wider, r"params.a: float32\[4, 8\] there, float32\[4, 9\] here"),
    (longer, r"params.d: nothing there, float32\[4, 8\] here"),
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


def test_a_manifest_says_what_was_saved(tmp_path):
  about = {"config": "c", "plan": "p", "versions": {"jax": jax.__version__}}
  store = Store(tmp_path, options(), about=about)
  store.save(state(4), 4, {"held_out/text_nll": 2.5, "nothing": float("nan")})
  store.close()
  manifest = integrity.check_files(tmp_path / "checkpoints" / "4")
  assert manifest.about == about and manifest.metrics == {"held_out/text_nll": 2.5}
  named = integrity.named_leaves(state(4))
  assert {n: (x.shape, x.dtype, x.prng) for n, x in manifest.leaves.items()} == {
    n: integrity.stored_form(x) for n, x in named.items()
  }
  assert manifest.leaves["opt_state.key"].prng == "threefry2x32"
  assert manifest.leaves["opt_state.none"].shape == (0, 3)


def test_other_data_are_refused_and_nothing_is_touched(tmp_path):
  store = Store(tmp_path, about={"plan": "one"})
  store.save(state(4), 4)
  store.close()
  before = sorted(tmp_path.rglob("*"))
  store = Store(tmp_path, about={"plan": "two"})
  with pytest.raises(CheckpointError, match="packing plan of the data: one there, two"):
    store.restore(ABSTRACT)
  store.close()
  assert sorted(tmp_path.rglob("*")) == before


def test_the_state_may_be_given_away_while_it_is_written(tmp_path):
  """The step after a save donates what is being saved."""
  step = jax.jit(
    lambda s: s.replace(
      step=s.step + 1, params=jax.tree.map(lambda x: x * 1.5 + 1, s.params)
    ),
    donate_argnums=0,
  )
  now, copies, store = state(0), {}, Store(tmp_path)
  now = now.replace(params={**now.params, "a": jax.numpy.ones((256, 1024))})
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), now
  )
  for number in range(6):
    copies[number] = jax.tree.map(lambda x: x.copy(), now)
    store.save(now, number)
    now = step(now)
  store.wait()
  for number, copy in copies.items():  # and every digest holds
    assert equal(store.restore(abstract, number), copy)
  store.close()


def test_a_save_that_failed_is_said_and_the_next_one_works(tmp_path, monkeypatch):
  store = Store(tmp_path, options(), say=(said := []).append)
  store.save(state(1), 1)
  store.wait()

  def full(folder):
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patched:
    patched.setattr(integrity, "hash_files", full)
    store.save(state(2), 2)
    with pytest.raises(CheckpointError, match="could not save 2 under .*No space left"):
      store.wait()
  assert store.steps() == [1]
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]
  store.save(state(2), 2)  # the same step, tried again
  store.wait()
  assert store.steps() == [1, 2] and equal(store.restore(ABSTRACT), state(2))
  with monkeypatch.context() as patched:
    patched.setattr(integrity, "hash_files", full)
    store.save(state(3), 3)
    store.close()
  assert said and "could not save 3" in said[-1]
