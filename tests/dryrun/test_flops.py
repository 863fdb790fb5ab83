"""Model FLOPs counted by hand agree with those XLA counts in the compiled step."""

import jax
import numpy as np
import pytest

from tests import small
from unijax.dryrun import flops
from unijax.train import step

SIZES = dict(
  model__depth=2, model__scan_unroll=2, model__width=256, model__heads=4,
  model__kv_heads=2, model__head_dim=64, model__mlp_width=512, data__seq_len=128,
  train__batch_size=1,
)  # fmt: skip


def counted_by_xla(c) -> float:
  """FLOPs of the compiled forward and backward pass; loops are unrolled."""
  functions = small.functions(c)
  params = jax.eval_shape(functions.init).params
  row = small.batch(c, [small.plain("a")])
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), row)
  key = jax.eval_shape(lambda: jax.random.key(0))

  def loss(params, batch, key):
    return step.loss_fn(params, functions.model, c, batch, key)[0]

  compiled = jax.jit(jax.grad(loss)).lower(params, batch, key).compile()
  return compiled.cost_analysis()["flops"]


@pytest.mark.parametrize(
  "knobs",
  [
    {},
    dict(model__time_injection="adaln"),
    dict(
      model__patch_codec="unet", model__unet_width=32, data__patch_size=4,
      data__image_size=16, data__images_per_row=2, model__width=128, model__depth=1,
      model__scan_unroll=1,
    ),
  ],
  ids=["linear", "adaln", "unet"],
)  # fmt: skip
def test_agrees_with_xla(knobs):
  c = small.config(**{**SIZES, **knobs})
  ours = flops.train_step(c, small.VOCABULARY.size, flops.everything(c))["model"]
  theirs = counted_by_xla(c)
  assert ours == pytest.approx(theirs, rel=0.03), ours / theirs
