"""FLOPs read from the traced step agree with XLA's count of the compiled one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests import small
from unijax.dryrun import flops, products
from unijax.nn import grouped, logical
from unijax.nn.transformer import REMAT
from unijax.train import step, tasks

WIDE = dict(
  model__depth=1, model__width=256, model__heads=4, model__kv_heads=2,
  model__head_dim=64, model__mlp_width=512, train__batch_size=4, data__seq_len=256,
)  # fmt: skip
ONLY_DRAWN = {"tasks": {"draw": 1.0}, "chat": False}
DRAWING = dict(
  WIDE, train__task="drawing",
  data__sources={"scenes": {"kind": "scenes", "weight": 1.0, "options": ONLY_DRAWN}}, dit__depth=1, dit__width=256, dit__mlp_width=1024,
  dit__heads=4, data__patch_size=8, data__caption_length=64,
)  # fmt: skip
TOWERS = dict(
  WIDE, train__task="alignment", vision__depth=1, vision__width=256,
  vision__mlp_width=1024, text__depth=1, text__width=256, text__mlp_width=1024,
  align__width=256,
)  # fmt: skip
CODES = dict(data__codec="blocks", data__patch_size=1, data__noise_limit=0.0)
CASES = {
  "diffusion": WIDE,
  "masked": dict(WIDE, **CODES, model__write="masked"),
  "bridge": dict(WIDE, model__write="bridge", bridge__slots=8, dit__depth=1,
                 dit__width=256, dit__mlp_width=1024),
  "frozen": dict(WIDE, optim__freeze=("transformer/*", "embedding/*")),
  "cross": DRAWING,
  "joint": dict(DRAWING, dit__conditioning="joint", dit__single_depth=1),
  "softmax": TOWERS,
  "queries": dict(TOWERS, align__objective="queries", text__depth=2),
}  # fmt: skip
QUICK = ("cross",)
MORE = 0.04  # XLA also counts sums, norms and softmax


def of_task(c):
  """(vocabulary, a batch's shapes, function of the step's gradients and its shapes)."""
  loader = tasks.make_loader(c)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), loader.batch(0)
  )
  task = tasks.make_task(c, loader.vocab)
  key = jax.eval_shape(jax.random.key, 0)
  params = jax.eval_shape(lambda k: nn.unbox(task.init_params(k)), key)
  function = lambda p, b, k: step.gradients(p, task, b, k)[0]
  return loader.vocab, batch, (function, params, batch, key)


def by_xla(function, *args) -> float:
  return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def agrees(c):
  vocab, batch, traced = of_task(c)
  ours, theirs = products.train_step(c, vocab, batch), by_xla(*traced)
  assert 0.99 < theirs / ours < 1 + MORE, theirs / ours


@pytest.mark.parametrize(
  "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_agrees_with_xla(name):
  agrees(small.scenes(**CASES[name]))


@pytest.mark.slow
def test_codecs_agree_with_xla():
  agrees(small.codec("kl", codec__width=32, codec__groups=8, data__image_size=32))


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_loops_choices_and_what_nobody_needs():
  a, w = shape(4, 8), shape(8, 8)
  once = 2 * 4 * 8 * 8
  repeat = lambda a, w: jax.lax.scan(lambda x, _: (x @ w, None), a, length=5)[0]
  assert products.count(repeat, a, w) == 5 * once
  either = lambda a, w: jax.lax.cond(a[0, 0] > 0, lambda: a @ w @ w, lambda: a @ w)
  assert products.count(either, a, w) == 2 * once

  def wasteful(a, w):
    jnp.exp(a @ w)
    return a @ w.T

  assert products.count(wasteful, a, w) == once
  forever = lambda a, w: jax.lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ w, a)
  with pytest.raises(ValueError, match="length is not known"):
    products.count(forever, a, w)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_count_products_with_pixels_only(padding, stride):
  """Counted one by one: those of a picture of ones, and of it between zeros."""
  x, kernel = np.ones((2, 6, 6, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)
  given = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))
  one = lambda x, k: jax.lax.conv_general_dilated(x, k, (stride,) * 2, padding, **given)
  assert products.count(one, x, kernel) == 2 * float(one(x, kernel).sum())
  apart = lambda x, k: jax.lax.conv_transpose(x, k, (stride,) * 2, padding, **given)
  assert products.count(apart, x, kernel) == 2 * float(apart(x, kernel).sum())


def test_rows_meet_the_weights_of_their_group_only():
  """Also in both gradients, and not as a CPU cuts them into blocks."""
  x, w = shape(64, 8), shape(4, 8, 16)
  sizes = jax.ShapeDtypeStruct((4,), jnp.int32)
  loss = lambda x, w, sizes: jnp.square(grouped.product(x, w, sizes)).sum()
  with logical.traced_for("tpu"):
    counted = products.count(jax.grad(loss, (0, 1)), x, w, sizes)
  assert counted == 3 * 2 * 64 * 8 * 16
  assert logical.platform() == jax.default_backend()


@pytest.mark.parametrize("sharing", ["ffn", "full", "experts"])
def test_ways_of_sharing_are_counted_as_by_hand(sharing):
  """Copies cost what one costs; experts what a position goes through."""
  knobs = dict(model__experts=4, model__experts_per_token=2, model__expert_width=256)
  found = {}
  for way in ("shared", sharing):
    c = small.scenes(**dict(WIDE, **knobs, model__sharing=way))
    loader = tasks.make_loader(c)
    traced = products.train_step(c, loader.vocab, loader.batch(0))
    parts = flops.forward(c, loader.vocab, flops.everything(c))
    found[way] = np.array([traced, 3 * c.train.batch_size * sum(parts.values())])
  more = found[sharing] - found["shared"]
  assert abs(more[0] - more[1]) < 0.005 * found["shared"][0]  # the losses of a router


def test_what_is_computed_again_or_frozen_does_not_count():
  def counted(**knobs):
    c = small.scenes(**{**WIDE, "model__depth": 2, **knobs})
    loader = tasks.make_loader(c)
    return products.train_step(c, loader.vocab, loader.batch(0))

  everything = counted()
  assert counted(model__remat="full") == everything
  frozen = counted(optim__freeze=("*", "!text_head/*"))
  # All but a third of a step is backward; a little more, since attention's backward pass
  # computes the scores again.
  assert 0.3 * everything < frozen < 0.5 * everything


def test_what_remat_computes_again_is_counted_where_asked():
  """A block but for its last product, or its attention, or its attention's scores."""
  c = small.scenes(**{**WIDE, "model__depth": 2})
  loader = tasks.make_loader(c)
  rows = loader.batch(0)
  parts = flops.forward(c, loader.vocab, flops.everything(c))
  maps, attention, mlp = (
    c.train.batch_size * parts[k] for k in ("attention_maps", "attention", "mlp")
  )
  block = maps + attention + mlp * 2 / 3
  again = {
    "none": 0, "full": block, "dots": attention,
    "attention": block - attention / 2, "offload": block - attention / 2,
  }  # fmt: skip
  assert set(again) == set(REMAT)
  for policy, more in again.items():
    of = dataclasses.replace(c, model=dataclasses.replace(c.model, remat=policy))
    once = products.train_step(of, loader.vocab, rows)
    found = products.train_step(of, loader.vocab, rows, remat=True) - once
    assert found == pytest.approx(more, rel=1e-6), policy
