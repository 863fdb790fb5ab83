"""Laws of the task of drawing: its batches, its loss, its configs, on any mesh."""

import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import dits, small
from tests.conftest import ROOT
from unijax import config_file
from unijax.config import ConfigError
from unijax.data.document import DataError
from unijax.data.drawings import DrawingLoader
from unijax.train.functions import StepFunctions
from unijax.types import Drawings

DRAW = {"num_documents": 64, "max_objects": 1, "tasks": {"draw": 1.0}}


def config(style="joint single", tasks=None, **knobs):
  """Captioned scenes of four patches, in the smallest model that has everything."""
  options = {**DRAW, **({"tasks": tasks} if tasks else {})}
  scenes = {"kind": "scenes", "weight": 1.0, "options": options}
  base = dict(
    train__task="drawing", train__batch_size=8, data__caption_length=64,
    model__depth=1, data__sources={"scenes": scenes},
  )  # fmt: skip
  return small.scenes(**{**dits.SIZES, **dits.STYLES[style], **base, **knobs})


# -- batches -------------------------------------------------------------------------------


def test_batches_are_a_function_of_their_number_and_parts_make_the_whole():
  loader = DrawingLoader(config())
  whole = loader.batch(3)
  parts = [loader.batch(3, (i, 2)) for i in range(2)]
  together = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  jax.tree.map(np.testing.assert_array_equal, together, whole)
  with loader.iterate(3) as batches:
    jax.tree.map(np.testing.assert_array_equal, next(batches), whole)
  tokens, length = whole.tokens_BS, whole.length_B
  assert (tokens[:, 0] == small.SPECIAL.bos).all()
  pad = tokens == small.SPECIAL.pad
  np.testing.assert_array_equal(pad.sum(1), tokens.shape[1] - length)
  assert loader.padding(3) == pytest.approx(pad.mean())
  held_out = DrawingLoader(config(), held_out=True)
  assert held_out.plan_hash != loader.plan_hash


def test_captions_are_left_out_in_their_share():
  length = [
    DrawingLoader(config(data__caption_dropout=p, train__batch_size=64)).batch(0).length_B
    for p in (0.0, 0.5, 1.0)
  ]  # fmt: skip
  assert length[0].min() > 1 and (length[2] == 1).all()
  dropped = length[1] == 1
  assert 0.3 < dropped.mean() < 0.7
  np.testing.assert_array_equal(length[1][~dropped], length[0][~dropped])


def test_documents_that_draw_nothing_and_long_captions_are_refused():
  with pytest.raises(DataError, match="describe.*task 'draw'"):
    DrawingLoader(config(tasks={"describe": 1.0})).batch(0)
  with pytest.raises(DataError, match="data.caption_length=4"):
    DrawingLoader(config(data__caption_length=4, data__caption_dropout=0.0)).batch(0)


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(model__write="codes"), "model.write: 'codes'"),
    (dict(data__mixture="loss"), "data.mixture: 'loss'"),
    (dict(dit__heads=3), "dit.heads: 3 must divide dit.width 16"),
    (dict(dit__conditioning="cross"), "dit.single_depth: 2 needs"),
    (dict(dit__width=18, dit__heads=3), "multiple of 4"),
    (dict(data__patch_size=15), "data.image_size: 32"),
  ],
)
def test_contradictions_are_named(knobs, message):
  with pytest.raises(ConfigError, match=message):
    config(**knobs)


# -- the loss ------------------------------------------------------------------------------


@functools.cache
def loss():
  """(task, weights, compiled (batch, weights) -> (loss, gradients), a batch)."""
  c = config()
  functions = StepFunctions(c, small.VOCABULARY.size)
  params = dits.random_like(jax.eval_shape(functions.init).params)

  def run(batch, weights):
    return jax.value_and_grad(functions.task.loss, has_aux=True)(
      params, batch, jax.random.key(1), weights
    )

  run = jax.jit(run, compiler_options=small.QUICK)
  batch = DrawingLoader(c).batch(0)
  return run, batch, functions.task.total_weights(batch)


def rows(batch, index) -> Drawings:
  return jax.tree.map(lambda x: x[np.asarray(index)], batch)


@pytest.mark.slow
def test_parts_add_up_and_neither_order_nor_padding_matters():
  run, batch, weights = loss()
  (value, metrics), gradients = run(batch, weights)
  assert metrics["image_mse"].compute() == pytest.approx(float(value), rel=1e-5)
  halves = [run(rows(batch, i), weights) for i in (range(4), range(4, 8))]
  assert sum(h[0][0] for h in halves) == pytest.approx(float(value), rel=1e-5)
  near = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
  jax.tree.map(lambda a, b, c: near(a + b, c), *[h[1] for h in halves], gradients)
  turned = run(rows(batch, [5, 3, 0, 1, 2, 7, 6, 4]), weights)
  assert turned[0][0] == pytest.approx(float(value), rel=1e-5)
  real = np.arange(batch.tokens_BS.shape[1]) < batch.length_B[:, None]
  spoiled = batch.replace(tokens_BS=np.where(real, batch.tokens_BS, 7))
  assert run(spoiled, weights)[0][0] == pytest.approx(float(value), rel=1e-5)
  other = batch.replace(tokens_BS=np.where(batch.tokens_BS == 97, 98, batch.tokens_BS))
  assert abs(run(other, weights)[0][0] - value) > 1e-4 * value


@pytest.mark.slow
@pytest.mark.parametrize("style", ["joint single", "cross shared"])
def test_mesh_invariance(style, tmp_path):
  """Law 7, on eight simulated devices."""
  out = tmp_path / "out.json"
  done = subprocess.run(
    [sys.executable, "-m", "tests.train.drawing_on_devices", style, str(out)],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  one, other = json.loads(out.read_text())
  assert one["loss"][-1] < 0.9 * one["loss"][0], "nothing was learnt: a weak test"
  assert other["init"] == one["init"]
  assert other["parts"] == 8, "not really divided"
  np.testing.assert_allclose(other["loss"], one["loss"], rtol=5e-6)


# -- configs -------------------------------------------------------------------------------

# Parameters of the transformer that denoises: of the released files, and "0.6B" as
# the paper rounds it.
PRESETS = {
  "ldm.py:tiny": None,
  "ldm.py:0.6B": (0.6e9, 0.05),
  "flux.py:tiny": None,
  "flux.py:2B": (2_028_328_000, 0.01),
  "flux.py:12B": (11_901_408_320, 0.01),
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_its_train_step(name, capsys):
  c = config_file.load([f"--config={ROOT}/configs/{name}"])
  state, _ = small.traced(c)
  if PRESETS[name]:
    published, rel = PRESETS[name]
    leaves = jax.tree.leaves(state.params["dit"])
    count = sum(np.prod(x.shape, dtype=float) for x in leaves)
    with capsys.disabled():
      print(f"\n{name}: {count:,.0f} parameters, published {published:,.0f}")
    assert count == pytest.approx(published, rel=rel)
