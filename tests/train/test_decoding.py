"""Laws of training a decoder of features: parts, dropped features, a resting encoder."""

import jax
import numpy as np
import pytest

from tests import small
from tests.codecs.test_drawn import config
from unijax import codecs
from unijax.data.picture_loader import PictureLoader
from unijax.evals import codec as measured
from unijax.train import loop, step
from unijax.train.metrics import read_metrics


def test_parts_of_a_batch_add_up():
  c = config(optim__freeze=())
  f, batch = small.functions(c), PictureLoader(c).batch(0)
  params, key = small.params(c, 0), jax.random.key(3)
  run = jax.jit(
    lambda parts: step.gradients(params, f.task, batch, key, parts),
    static_argnums=0, compiler_options=small.QUICK,
  )  # fmt: skip
  one, two = run(1), run(2)
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6, err_msg=str(path))
  encoder = one[0]["codec"]["encoder"]["encoder"]
  assert max(np.abs(x).max() for x in jax.tree.leaves(encoder)) > 0  # nothing rests


def test_dropped_features_are_not_seen():
  c = config(data__caption_dropout=0.5)
  task, batch, key = (
    small.functions(c).task,
    PictureLoader(c).batch(0),
    jax.random.key(3),
  )
  shown = np.asarray(task._uniform(key, batch.key_B) >= 0.5)
  assert 0 < shown.sum() < len(shown), "a weak draw: choose another key"
  loss = jax.jit(
    lambda p, b: task.loss(p, b, key, 1.0)[0], compiler_options=small.QUICK
  )
  params, other = (small.params(c, seed)["codec"] for seed in (0, 1))
  for number, seen in enumerate(shown):
    alone = jax.tree.map(lambda x, n=number: x[n : n + 1], batch)
    one, two = (
      loss({"codec": {**params, "encoder": p["encoder"]}}, alone)
      for p in (params, other)
    )
    assert (one != two) == seen


@pytest.mark.slow
def test_a_run_learns_rests_its_encoder_and_freezes(tmp_path):
  c = config(
    train__steps=8, train__eval_every=8, train__sample_every=8, eval__batch_size=3
  )
  first = small.functions(c).init().params["codec"]
  state, _ = loop.train(c, tmp_path, measured.hooks(c))
  for part, rests in (("encoder", True), ("decoder", False)):
    same = jax.tree.map(
      lambda a, b: bool((a == b).all()), first[part], state.params["codec"][part]
    )
    assert all(jax.tree.leaves(same)) == rests
  lines = [x for x in read_metrics(tmp_path) if "train/image_mse" in x]
  assert lines[-1]["train/image_mse"] < lines[0]["train/image_mse"]
  assert (tmp_path / "samples" / "0000008.png").is_file()
  codec = codecs.open_codec(str(tmp_path))
  np.testing.assert_array_equal(
    codec._params["decoder"]["leave"]["kernel"],
    state.ema_params["codec"]["decoder"]["leave"]["kernel"],
  )
  options = {"items": 3, "split": None}  # too few for kid_lite
  figures = measured.evaluate(str(tmp_path), None, None, options)
  assert figures["psnr"] > 3 and "codes_used" not in figures
  assert "Reconstructions" in (tmp_path / "report.html").read_text()
