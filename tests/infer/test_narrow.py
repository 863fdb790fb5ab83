"""Weights held in the dtype they are multiplied in: the same numbers, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.train import test_drawing
from unijax.infer import narrow
from unijax.infer.batch import RowBatch
from unijax.infer.drawing import DrawingGenerator
from unijax.infer.generate import Generator, Prompt
from unijax.nn.sharing import SHARING
from unijax.train.functions import StepFunctions

HALF = dict(model__dtype="bfloat16", sample__guidance=2.0, sample__max_text_tokens=6)
PROMPTS = [
  Prompt([small.Text("ab")], "image", seed=1),
  Prompt([small.Text("c"), small.image(1)], seed=2),
]


def flat(tree) -> dict[str, jax.Array]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves
  }


class Wide(Generator):
  """Keeps the float32 weights, so that every function rounds them itself."""

  params = None


@pytest.mark.slow
@pytest.mark.parametrize("sharing", SHARING)
def test_narrow_weights_write_and_draw_the_same(sharing):
  c = small.config(
    model__sharing=sharing, model__experts=4, model__time_injection="adaln",
    model__patch_codec="unet" if sharing == "shared" else "linear", **HALF,
  )  # fmt: skip
  weights = small.lively(small.params(c, 0))
  rows = []
  for kind in (Generator, Wide):
    batch = RowBatch(kind(c, weights, small.builder(c), rows=2), PROMPTS, 0)
    batch.run()
    rows.append(batch)
  one, other = rows
  assert {x.dtype for x in flat(other.params).values()} == {jnp.dtype("float32")}
  np.testing.assert_array_equal(one.logits, other.logits)
  for a, b in zip(one.caches, other.caches, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)
  for a, b in zip(one.rows, other.rows, strict=True):
    assert a.tokens == b.tokens
  held = flat(one.params)
  for name, x in held.items():
    exact = "norm" in name or "router" in name
    assert x.dtype == (jnp.float32 if exact else jnp.bfloat16), name


@pytest.mark.slow
def test_narrow_weights_draw_the_same_from_captions():
  c = test_drawing.config(model__dtype="bfloat16", sample__steps=3)
  builder = small.builder(c)
  functions = StepFunctions(c, builder.vocabulary.size)
  weights = functions.init().params
  weights = jax.tree.map(lambda x: x + 0.02, weights)  # what begins at zero draws too
  made = DrawingGenerator(c, weights, builder)
  prompts = [Prompt([small.Text("a red circle")], seed=1)]
  (narrow_picture,) = made.generate(prompts)
  made._params = weights
  (wide_picture,) = made.generate(prompts)
  np.testing.assert_array_equal(narrow_picture.images[0], wide_picture.images[0])
  made.params = weights
  kinds = {x.dtype for x in flat(made.params).values()}
  assert kinds == {jnp.dtype("float32"), jnp.dtype("bfloat16")}


def test_float32_weights_are_held_as_they_are():
  c = small.config()
  weights = small.params(c, 0)
  assert Generator(c, weights, small.builder(c)).params is weights


def only_rounded(function, *more) -> bool:
  shapes = [jax.ShapeDtypeStruct((4, 4), jnp.float32)]
  return narrow.rounded([(function, (shapes, *more))], jnp.bfloat16)[0]


def round_(x):
  return x.astype(jnp.bfloat16)


def scanned(use):
  def function(p):
    return jax.lax.scan(lambda c, w: (c + use(w).sum(), None), jnp.bfloat16(0), p[0])

  return function


def looped(use):
  def function(p):
    body = lambda c: (c[0] + 1, c[1] + use(p[0]).sum())
    return jax.lax.while_loop(lambda c: c[0] < 3, body, (0, jnp.bfloat16(0)))

  return function


def chosen(use):
  return lambda p: jax.lax.cond(True, use, lambda x: jnp.zeros((4, 4)), p[0])


@pytest.mark.parametrize(
  ("function", "answer"),
  [
    (lambda p: round_(p[0]), True),
    (lambda p: round_(p[0].T[1:]), True),
    (lambda p: round_(jnp.take(p[0], jnp.arange(2), axis=0)), True),
    (lambda p: jax.jit(lambda x: x.T)(p[0]), False),
    (lambda p: round_(jax.jit(lambda x: x.T)(p[0])), True),
    (lambda p: round_(p[0] * 2), False),
    (lambda p: (round_(p[0]), p[0].sum()), False),
    (lambda p: p[0].astype(jnp.float16), False),
    (lambda p: p[0], False),
    (scanned(round_), True),
    (scanned(lambda w: round_(w * w)), False),
    (looped(round_), True),
    (looped(lambda w: round_(w + 1)), False),
    (chosen(lambda x: round_(x).astype(jnp.float32)), True),
    (chosen(lambda x: x), False),
    (jax.checkpoint(lambda p: round_(p[0])), True),
  ],
)
def test_what_is_seen_before_it_is_rounded_keeps_its_dtype(function, answer):
  assert only_rounded(function) == answer
