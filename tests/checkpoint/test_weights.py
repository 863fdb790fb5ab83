"""Laws of low-rank pairs on disk: what is read of them, begun from them, and merged."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.checkpoint.states import equal
from tests.checkpoint.test_start import begin
from unijax import cli, low_rank
from unijax.checkpoint import fits, rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.start import Start
from unijax.checkpoint.store import Store
from unijax.types import TrainState

SCALE = 4.0 / 2  # alpha / rank
PAIRS = low_rank.PAIRS


def state(seed: int, pairs: bool = True) -> TrainState:
  """A module with a pair, a bias and one without, and a parameter of its own."""
  keys = iter(jax.random.split(jax.random.key(seed), 16))
  draw = lambda *shape: jax.random.normal(next(keys), shape)
  params = {"m": {"kernel": draw(3, 4, 5), "bias": draw(3, 5), "n": {"kernel": draw(4, 5)}},
            "table": draw(6, 4)}  # fmt: skip
  ema = jax.tree.map(lambda x: x + 1, params)
  if pairs:
    of = lambda: {"m": {low_rank.A: draw(3, 4, 2), low_rank.B: draw(3, 2, 5)}}
    params[PAIRS], ema = of(), {PAIRS: of(), "table": draw(6, 4)}
  return TrainState(jnp.int32(seed), params, ema, {}, jnp.uint32([1, seed]))


def want(s: TrainState, weights: str):
  """What a model of its weights has."""
  base = {name: x for name, x in s.params.items() if name != PAIRS}
  pair = s.params[PAIRS]["m"]
  if weights == "ema":
    base["table"], pair = s.ema_params["table"], s.ema_params[PAIRS]["m"]
  change = SCALE * np.einsum("nir,nro->nio", *map(np.float64, pair.values()))
  kernel = np.float32(base["m"]["kernel"] + change)
  return {**base, "m": {**base["m"], "kernel": kernel}}


def close(one, other) -> bool:
  assert jax.tree.structure(one) == jax.tree.structure(other)
  return all(jax.tree.leaves(jax.tree.map(
    lambda a, b: np.allclose(a, b, rtol=1e-5, atol=1e-5), one, other)))  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
  """A run with pairs."""
  return saved(tmp_path_factory.mktemp("tuned"), state(7), 2)


def saved(folder, s: TrainState, rank: int):
  config = small.config(lora__rank=rank, lora__alpha=4.0)
  store = Store(folder)
  store.save(s, 7)
  store.wait()
  store.close()
  rundir.write_config(folder, config, {"versions": {"x": "1"}})
  return folder


def test_weights_are_read_without_pairs(tuned):
  plain = fits.abstract_state(lambda: state(0, pairs=False))
  found, step = Reader(tuned).weights(plain.params)
  assert step == 7 and close(found, want(state(7), "ema"))
  assert not close(found, want(state(7), "params"))


@pytest.mark.parametrize("weights", ["ema", "params"])
def test_merging_makes_an_ordinary_run(tuned, tmp_path, capsys, weights):
  out = tmp_path / "whole"
  cli.main(["ckpt", "merge", str(tuned), f"--out={out}", f"--weights={weights}"])
  result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
  assert result["step"] == 7 and result["parameters"] == 3 * 20 + 15 + 20 + 24
  then, now = rundir.read_config(tuned), rundir.read_config(out)
  off = dataclasses.replace(then.lora, rank=0)
  assert now == dataclasses.replace(then, lora=off)
  plain = fits.abstract_state(lambda: state(0, pairs=False))
  found, _ = Reader(out).weights(plain.params)
  assert close(found, want(state(7), weights))
  begun, _, _ = begin(
    tmp_path / "run", Start(init_from=str(out)), lambda: state(0, False)
  )
  assert equal(begun.params, found)
  with pytest.raises(CheckpointError, match=f"was merged.*--init-from={out}"):
    Reader(out).restore(plain)
  for there, said in ((out, "is there already"), (tmp_path / "x", "no low-rank pairs")):
    with pytest.raises(SystemExit):
      cli.main(["ckpt", "merge", str(out), f"--out={there}"])
    assert said in capsys.readouterr().err


def test_the_plain_export_has_kernels_with_their_pairs(tuned, tmp_path, capsys):
  from unijax.checkpoint import safetensors

  out = tmp_path / "x.safetensors"
  cli.main(["ckpt", "export", str(tuned), f"--out={out}", "--weights=params"])
  found = safetensors.read(out)
  assert sorted(found) == ["m.bias", "m.kernel", "m.n.kernel", "table"]
  np.testing.assert_allclose(
    found["m.kernel"], want(state(7), "params")["m"]["kernel"], rtol=1e-5, atol=1e-5
  )


def test_pairs_begin_beside_the_parameters_of_a_run_that_has_none(tuned, tmp_path):
  base = saved(tmp_path / "base", state(3, pairs=False), 0)
  found, how, said = begin(tmp_path / "a", Start(init_from=str(base)), lambda: state(1))
  assert "0 missing, 0 unexpected, 0 misfit" in said[0] and how.startswith("4 of 6")
  taken = state(3, pairs=False).params
  assert equal(found.params, {**taken, PAIRS: state(1).params[PAIRS]})
  assert equal(found.ema_params, {k: found.params[k] for k in (PAIRS, "table")})
  both, how, _ = begin(tmp_path / "b", Start(init_from=str(tuned)), lambda: state(1))
  assert equal(both.params, state(7).params) and how.startswith("6 of 6")
  with pytest.raises(CheckpointError, match=f"nothing here(?s:.*)ckpt merge {tuned}"):
    begin(tmp_path / "c", Start(init_from=str(tuned)), lambda: state(1, False))


def test_a_run_with_pairs_whose_pairs_are_lost_is_not_taken_for_a_fresh_one(
  tuned, tmp_path
):
  """Renamed away in part, they are missing like any other parameter."""
  rule = rf":{PAIRS}\.m\.{low_rank.A}=>"
  with pytest.raises(CheckpointError, match=f"1 missing(?s:.*){PAIRS}.m.{low_rank.A}"):
    begin(tmp_path / "d", Start(init_from=f"{tuned}{rule}"), lambda: state(1))
