"""Alignment runs: configs, batches, laws of the objectives, learning, resuming."""

import dataclasses
import os
import pathlib
import signal

import flax.linen as nn
import jax
import numpy as np
import pytest

from configs import base
from tests import small
from tests.conftest import ROOT
from unijax import config_file
from unijax.checkpoint.store import Store
from unijax.config import ConfigError, from_config_dict
from unijax.data.document import DataError
from unijax.data.pair_loader import PairLoader, pair
from unijax.evals import alignment as evaluation
from unijax.evals import retrieval
from unijax.train import alignment, loop, tasks
from unijax.train.encoders import FOLDER, open_encoder
from unijax.train.functions import StepFunctions
from unijax.train.interrupt import Interrupted
from unijax.train.metrics import read_metrics
from unijax.types import Pairs

STEPS = 250


def config(**knobs):
  """One thing a picture, two small encoders."""
  c = base.get_config()
  c.train.update(task="alignment", batch_size=32, steps=STEPS, log_every=10)
  c.train.update(eval_every=1000, ema_decay=0.9)
  shape = {"depth": 1, "width": 32, "heads": 2, "mlp_width": 64}
  c.vision.update(shape)
  c.text.update(shape, length=12)
  c.data.update(tokenizer="configs/tokenizers/embedded.json", threads=1)
  options = {"max_objects": 1, "grid": 2, "num_documents": 100_000}
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": options}
  c.optim.update(learning_rate=1e-2, warmup_steps=10, schedule="constant")
  c.eval.update(prompts=60, batch_size=20, loss_batches=1)
  c.align.update(width=32, queries=2)
  for name, value in knobs.items():
    section, _, knob = name.partition("__")
    c[section][knob] = value
  return from_config_dict(c)


# -- configs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    ({"train__micro_batches": 2}, "every picture is compared with every text"),
    ({"train__loss_chunks": 5}, "train.loss_chunks: 5 must divide"),
    ({"vision__heads": 5}, "vision.heads: 5 must divide vision.width 32"),
    ({"vision__patch_size": 5}, "must be a multiple of vision.patch_size 5"),
    ({"vision__rope_grid": 4, "vision__heads": 16}, "multiple of 4 wide"),
    ({"vision__positions": "sincos", "vision__width": 34}, "a multiple of 4"),
    ({"align__objective": "distill"}, "needs a teacher"),
    ({"align__frozen": "x"}, "trains its own encoders"),
    ({"align__scale": 200.0}, "must not exceed align.max_scale"),
    ({"align__image_projection": "none", "align__width": 8}, "the encoder's width 32"),
    ({"align__objective": "queries"}, "align.cross_every: 2 must divide text.depth 1"),
    ({"align__mask_share": 1.0}, r"in \(0, 1\)"),
    (
      {"align__objective": "distill", "align__frozen": "x", "align__mask_share": 0.01},
      "hides none",
    ),
    ({"text__length": 2}, "> 2"),
    ({"data__mixture": "linear"}, "use 'constant'"),
    ({"vision__registers": -1}, "vision.registers: -1 must be >= 0"),
    (
      {"vision__patch_size": 64, "vision__crop": True},
      "larger than it, with vision.crop",
    ),
    (
      {"vision__skip_blocks": 1},
      "vision.skip_blocks: 1 must be less than vision.depth",
    ),
    (
      {"vision__position_grid": 2, "vision__positions": "none"},
      "with vision.positions",
    ),
    ({"vision__std": (0.5, 0.0, 0.5)}, "vision.std: 0.0 must be > 0"),
    ({"align__objective": "none", "align__frozen": "x"}, "trains its own encoders"),
  ],
)
def test_clashes_are_refused_by_name(knobs, message):
  with pytest.raises(ConfigError, match=message):
    config(**knobs)


# -- batches -----------------------------------------------------------------------------


def test_a_batch_is_its_parts_and_the_same_when_read_again():
  c = config()
  loader, again = PairLoader(c), PairLoader(c)
  whole = loader.batch(3)
  parts = [again.batch(3, (i, 4)) for i in range(4)]
  with again.iterate(3) as ahead:
    first = next(ahead)
  for field in dataclasses.fields(whole):
    want = getattr(whole, field.name)
    got = np.concatenate([getattr(part, field.name) for part in parts])
    assert (got == want).all() and (getattr(first, field.name) == want).all()
  assert loader.plan_hash == again.plan_hash
  assert loader.plan_hash != PairLoader(config(text__length=13)).plan_hash


def test_rows_hold_the_caption_between_its_marks():
  loader = PairLoader(config())
  batch, special = loader.batch(0), loader.captions.special
  for i in range(len(batch.end_B)):
    caption, image = pair(loader.stream[i][0])
    row, end = batch.tokens_BT[i], batch.end_B[i]
    assert row[0] == special.bos and row[end] == special.eos
    assert loader.captions.tokenizer.decode(row[1:end]) == caption
    assert (row[end + 1 :] == special.pad).all()
    assert (batch.pixels_BHWC[i] == image.pixels()).all()
  same = batch.caption_B[:, None] == batch.caption_B
  assert (same == (batch.tokens_BT[:, None] == batch.tokens_BT).all(-1)).all()
  rows, end = loader.captions.rows(["red " * 50])
  assert end == 11 and rows[0, 11] == special.eos
  used = [np.mean(row != special.pad) for row in batch.tokens_BT]
  assert loader.padding(0) == pytest.approx(1 - np.mean(used))


def test_rows_may_have_marks_of_the_tokenizer():
  marks = (("eos", 1), ("pad", 0))
  c = config(data__special=marks, text__bos=False, text__canonical="words")
  captions = PairLoader(c).captions
  rows, end = captions.rows(["A Red, dog!", "red " * 50])
  words = captions.tokenizer.encode("a red dog")
  assert rows[0].tolist() == [*words, 1, *[0] * (11 - len(words))]
  assert end.tolist() == [len(words), 11] and rows[1, 11] == 1
  own = captions.tokenizer.vocab_size  # nothing stands after the tokenizer's ids
  marks = (("bos", own - 2), ("eos", own - 1), ("pad", own - 1))
  assert PairLoader(config(text__vocab=own, data__special=marks)).vocab == own
  with pytest.raises(ConfigError, match="text.vocab"):
    PairLoader(config(text__vocab=own, data__special=marks[:2]))


def test_what_is_no_pair_is_refused():
  source = {"corpus": {"kind": "corpus", "weight": 1.0, "options": {}}}
  with pytest.raises(DataError, match="source 'corpus'.* is no pair of a picture"):
    PairLoader(config(data__sources=source)).batch(0)
  with pytest.raises(ConfigError, match="text.vocab: 8 ids, but data.tokenizer"):
    PairLoader(config(text__vocab=8))


# -- scores ------------------------------------------------------------------------------


def test_recall_counts_ties_as_lost():
  scores = retrieval.recalls(np.zeros((7, 7)))
  assert {s.value[0] for s in scores.values()} == {0.0}
  matrix = np.eye(7)
  matrix[0, 1] = 2.0  # picture 0 prefers text 1, and text 1 picture 0
  scores = {name: s.value[0] for name, s in retrieval.recalls(matrix).items()}
  assert scores["image_to_text@1"] == scores["text_to_image@1"] == pytest.approx(6 / 7)
  assert scores["image_to_text@5"] == 1.0
  right = retrieval.classified(np.asarray([[1.0, 0.0], [1.0, 1.0]]), np.asarray([0, 1]))
  assert right.value[0] == 0.5 and right.chance == 0.5


def test_neighbours_of_the_same_kind():
  vectors = np.asarray([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
  found = retrieval.neighbours(vectors @ vectors.T, np.asarray([0, 0, 1, 1]))
  assert found.value[0] == 0.75  # the last is nearer to others
  assert found.chance == pytest.approx(1 / 3) and found.count == 4
  same = retrieval.neighbours(np.ones((4, 4)), np.asarray([0, 0, 1, 1]))
  assert same.value[0] == 0.0  # ties are lost


def test_pictures_alone_are_scored_and_not_trained():
  c = config(align__objective="none", vision__mask_token=True)
  objective = tasks.make_task(c, 0).objective
  make = jax.jit(objective.module.init, compiler_options=small.QUICK)
  params = make(jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))
  assert set(params["params"]) == {"vision"} and "mask" in params["params"]["vision"]
  scores = retrieval.Retrieval(c, objective).scores(params["params"], 12)
  assert set(scores) == {"scenes/kind_by_neighbour"}
  with pytest.raises(ConfigError, match="no loss to train on"):
    objective.sums(None, None, None)


# -- runs --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
  """A trained run, in a quarter of a minute."""
  workdir = tmp_path_factory.mktemp("run")
  loop.train(config(), workdir, evaluation.hooks(config()))
  return workdir


@pytest.mark.slow
def test_the_preset_that_distils_a_run_builds(run):
  file = f"--config={ROOT}/configs/eva_clip.py:tiny-distill"
  c = config_file.load([file, f"--config.align.frozen={run}"])
  assert "loss" in small.traced(c)[1]


def test_a_small_run_learns(run, capsys):
  figures = evaluation.evaluate(str(run), None, run / "page.html", {"items": 40})
  scores = figures["zero_shot"]
  # Low ends of intervals against chance: how far above differs with the processor.
  assert scores["scenes/kind"][1] > 1 / 32
  for way in ("image_to_text", "text_to_image"):
    for best in (1, 5):
      assert scores[f"scenes/{way}@{best}"][1] > best / 40
    assert scores[f"scenes/{way}@5"][0] > scores[f"scenes/{way}@1"][0]
  assert "scenes/kind" in capsys.readouterr().out
  assert "scenes/kind" in (run / "page.html").read_text()
  last = read_metrics(run)[-1]
  assert last["zero_shot/scenes/kind"] > 1 / 32


def test_the_encoder_is_left_for_others(run, tmp_path):
  frozen = open_encoder(str(run))
  pixels = PairLoader(config()).batch(0).pixels_BHWC[:2]
  features = jax.jit(frozen, compiler_options=small.QUICK)(pixels)
  assert features.shape == (2, 16, 32)
  store = Store(run, read_only=True)
  functions = StepFunctions(config(), PairLoader(config()).vocab)
  weights = store.restore(functions.abstract_state()).ema_params
  store.close()
  look = lambda m, x: m.vision(x / 127.5 - 1.0)[1]
  apply = lambda w, x: functions.model.apply({"params": w}, x, method=look)
  want = jax.jit(apply, compiler_options=small.QUICK)(weights, pixels)
  np.testing.assert_allclose(features, want, atol=1e-5)
  with pytest.raises(ConfigError, match="holds no trained encoder"):
    open_encoder(str(tmp_path))
  file = run / FOLDER / "weights.safetensors"
  content = file.read_bytes()
  try:
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match="has changed"):
      open_encoder(str(run))
  finally:
    file.write_bytes(content)


def losses(c, workdir):
  state, _ = loop.train(c, workdir)
  lines = [x for x in read_metrics(workdir) if "train/loss" in x]
  return state, lines


def test_a_student_learns_what_the_teacher_saw(run, tmp_path):
  c = config(
    align__objective="distill", align__frozen=str(run), train__steps=30,
    train__micro_batches=2,
  )  # fmt: skip
  _, lines = losses(c, tmp_path)
  assert lines[-1]["train/cosine"] > lines[0]["train/cosine"] + 0.3
  objective = alignment.Distill(c, 0)
  hidden = objective.hidden(jax.random.key(1), np.arange(5, dtype=np.uint32))
  assert (hidden.sum(axis=1) == round(0.4 * 16)).all()
  again = objective.hidden(jax.random.key(1), np.asarray([3], np.uint32))
  assert (again[0] == hidden[3]).all() and (hidden[0] != hidden[1]).any()
  with pytest.raises(ConfigError, match="set vision.patch_size=8"):
    alignment.Distill(dataclasses.replace(
      c, vision=dataclasses.replace(c.vision, patch_size=4)
    ), 0)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_queries_learn_all_three_losses(frozen, run, tmp_path):
  c = config(
    align__objective="queries", align__frozen=str(run) if frozen else "",
    text__depth=2, train__steps=60, train__batch_size=16,
    optim__learning_rate=5e-3,
  )  # fmt: skip
  state, lines = losses(c, tmp_path)
  assert ("vision" in state.params) != frozen
  for name in ("contrast", "match", "text_nll"):
    assert lines[-1][f"train/{name}"] < 0.9 * lines[0][f"train/{name}"]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["softmax", "queries"])
def test_resumed_is_uninterrupted(objective, tmp_path):
  c = config(align__objective=objective, text__depth=2, train__steps=4)
  stop = loop.Hook(2, lambda run, state, step: os.kill(os.getpid(), signal.SIGTERM))
  straight, _ = loop.train(c, tmp_path / "straight")
  with pytest.raises(Interrupted):
    loop.train(c, tmp_path / "resumed", [stop])
  resumed, _ = loop.train(c, tmp_path / "resumed")
  same = jax.tree.map(lambda a, b: bool((a == b).all()), straight, resumed)
  assert all(jax.tree.leaves(same))


def test_queries_may_leave_out_what_a_release_leaves_out():
  """No head that writes, no learned factor, features as they come; the class token."""
  knobs = {"align__objective": "queries", "text__depth": 2, "vision__pool": "class"}
  bare = dict.fromkeys(("writes", "scale_learned", "feature_norm"), False)
  bare = {f"align__{name}": x for name, x in bare.items()} | {"align__class_seen": True}
  shape = jax.ShapeDtypeStruct
  batch = Pairs(
    shape((2, 32, 32, 3), np.uint8), shape((2, 12), np.int32), shape((2,), np.int32),
    shape((2,), np.uint32), shape((2,), np.uint32),
  )  # fmt: skip
  names, said = [], []
  for more in ({}, bare):
    objective = alignment.Queries(config(**knobs, **more), 600)
    init = lambda key, b, o=objective: o.module.init(key, *o.arguments(b))
    params = nn.unbox(jax.eval_shape(init, jax.random.key(0), batch))["params"]
    said.append(jax.eval_shape(objective.sums, params, batch, jax.random.key(1)))
    names.append({*params, *params["qformer"]})
  gone = {"log_scale", "word_transform", "word_norm", "word_bias", "feature_norm"}
  assert names[0] - names[1] == gone
  assert set(said[0]) - set(said[1]) == {"text_nll"}
  scale = objective.module.apply({"params": {}}, method="scale")
  np.testing.assert_allclose(scale, objective.config.align.scale)
  look = lambda p, x: objective.module.apply({"params": p}, x, method="features")
  features = jax.eval_shape(look, params, batch.pixels_BHWC)
  assert features.shape[1] == 17  # 4 x 4 patches and the class token
