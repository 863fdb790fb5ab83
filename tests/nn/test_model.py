"""Laws of the whole model: knobs that may not change it, and the scale of fresh weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.nn.layers import matmul
from unijax.nn.timestep import TIME_FEATURES, time_features
from unijax.train import step

KNOBS = dict(model__time_injection="adaln", model__patch_position="learned")


def row(c):
  batch = small.batch(c, [small.draw("ab", 1), small.describe("cd", 2)])
  return batch, small.inputs(c, batch, time=0.4 * (batch.span_BT >= 0))


def outputs_and_gradients(c, params):
  """Both heads, and the gradient of their sum of squares."""
  model, (_, inputs) = small.functions(c).model, row(c)

  def run(p):
    logits, prediction = model.apply({"params": p}, inputs)
    return (logits**2).mean() + (prediction**2).mean(), (logits, prediction)

  grad = jax.jit(jax.value_and_grad(run, has_aux=True), compiler_options=small.QUICK)
  (_, outputs), gradients = grad(params)
  return outputs, gradients


@pytest.fixture(scope="module")
def reference():
  c = small.config(**KNOBS)
  params = small.params(c, 0)
  return params, *outputs_and_gradients(c, params)


@pytest.mark.parametrize("knob", ["remat=full", "remat=dots", "scan_unroll=2"])
def test_how_it_is_computed_changes_nothing(reference, knob):
  params, outputs, gradients = reference
  name, _, value = knob.partition("=")
  value = int(value) if value.isdigit() else value
  c = small.config(**KNOBS, **{f"model__{name}": value})
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    outputs_and_gradients(c, params), (outputs, gradients),
  )  # fmt: skip


def test_bfloat16_is_the_same_model_roughly(reference):
  params, outputs, _ = reference
  c = small.config(**KNOBS, model__dtype="bfloat16")
  low, gradients = outputs_and_gradients(c, params)
  for a, b in zip(low, outputs, strict=True):
    assert a.dtype == jnp.float32  # heads are
    assert np.sqrt(np.mean((a - b) ** 2)) < 0.05 * np.std(b)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(gradients))


def test_tied_embeddings_share_the_table():
  c = small.config(model__tie_embeddings=True)
  params = small.params(c, 0)
  assert "text_head" not in params
  (logits, _), _ = outputs_and_gradients(c, params)
  moved = params["embedding"]["table"].at[7].mul(-1.0)  # of no token of the row
  (other, _), _ = outputs_and_gradients(c, {**params, "embedding": {"table": moved}})
  np.testing.assert_allclose(other[..., 7], -logits[..., 7], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(other[..., 8:], logits[..., 8:], rtol=1e-4, atol=1e-4)


@functools.cache
def _fresh(seed: int):
  c = small.config(**KNOBS, seed=seed)
  f = small.functions(c)
  init = functools.partial(step.init_state, c, f.task, f.optimizer)
  return jax.jit(init, compiler_options=small.QUICK)().params


def fresh(c):
  """Weights before any training, of KNOBS."""
  return _fresh(c.seed)


def test_fresh_weights_predict_nearly_uniform_text_and_modest_noise():
  c = small.config(**KNOBS)
  batch, inputs = row(c)
  params = fresh(c)
  logits, prediction = small.forward(c)(params, inputs)
  probability = jax.nn.softmax(logits)[0, (batch.segment_BT[0] > 0)]
  entropy = -(probability * jnp.log(probability)).sum(-1).mean()
  assert np.log(c_vocab := small.VOCABULARY.size) - 0.7 < entropy <= np.log(c_vocab)
  assert 0.3 < float(jnp.std(prediction[0][batch.patch_BT[0] >= 0])) < 3


def test_fresh_adaln_does_nothing_at_any_time():
  c = small.config(**KNOBS)
  batch, inputs = row(c)
  params = fresh(c)
  other = inputs.replace(time_BT=inputs.time_BT * 2)
  for a, b in zip(*(small.forward(c)(params, x) for x in (inputs, other)), strict=True):
    assert (a == b).all()
  busy = small.params(c, 0)
  assert any(
    (a != b).any()
    for a, b in zip(*(small.forward(c)(busy, x) for x in (inputs, other)), strict=True)
  )


def test_initialisation_is_a_function_of_the_seed():
  one, again, other = (fresh(small.config(**KNOBS, seed=s)) for s in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, one, again)
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    drawn = float(jnp.std(a)) > 0
    assert (a != b).any() == drawn, jax.tree_util.keystr(path)


def test_time_features_tell_times_apart():
  t = jnp.linspace(0, 1, 1001)
  x = time_features(t)
  assert x.shape == (1001, TIME_FEATURES) and abs(x).max() <= 1.0
  assert jnp.linalg.norm(x[1:] - x[:-1], axis=-1).min() > 0.5  # a thousandth shows
  np.testing.assert_allclose(x[0, : TIME_FEATURES // 2], 0, atol=1e-6)


def test_the_gradient_of_matmul():
  x, w = (
    jax.random.normal(jax.random.key(i), s) for i, s in ((0, (2, 3, 5)), (1, (5, 4)))
  )
  for argument in (0, 1):
    ours = jax.grad(lambda *a: (matmul(*a) ** 3).sum(), argument)(x, w)
    plain = jax.grad(lambda x, w: ((x @ w) ** 3).sum(), argument)(x, w)
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-4)
