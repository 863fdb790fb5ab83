"""Laws of a training step: packing, noise, weights, one compilation, its golden values."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from tests import small
from unijax.config import ConfigError
from unijax.data import rows
from unijax.data.loader import Loader
from unijax.nn.sharing import SHARING
from unijax.train import step
from unijax.train.metrics import to_scalars
from unijax.write import diffusion

DOCUMENTS = (
  small.draw("a red dog", 1),
  small.describe("blue", 2),
  small.plain("only text", id=3),
  small.plain(4, 5, id=4),
  small.plain("x", 6, "y", 7, "z", id=5),
)
VARIANTS = {
  "add-linear": dict(model__patch_position="learned", train__z_loss=1e-2),
  "token-unet": dict(
    model__time_injection="token", model__patch_codec="unet", model__positions="grid"
  ),
  "adaln-linear": dict(
    model__time_injection="adaln", model__positions="shared",
    model__image_mask="causal", diffusion__path="cosine", diffusion__predict="epsilon",
    diffusion__time_law="logit_normal", diffusion__loss_target="v",
  ),
}  # fmt: skip


VARIANTS |= {
  sharing: dict(model__sharing=sharing, model__experts=4, model__expert_width=24)
  for sharing in SHARING
  if sharing != "shared"
}


SLOW = ("experts", "ffn")  # mostly told by the others, and by tests of the layers
CASES = [pytest.param(v, marks=pytest.mark.slow) if v in SLOW else v for v in VARIANTS]


@functools.cache
def loss_and_gradient(name: str):
  """(config, compiled (params, batch, key) -> ((loss, metrics), gradients))."""
  c = small.config(**{"data__seq_len": 96, "data__noise_limit": 0.5, **VARIANTS[name]})
  loss = functools.partial(step.loss_fn, config=c, model=small.functions(c).model)

  def run(params, batch, key):
    return jax.value_and_grad(lambda p: loss(p, batch=batch, key=key), has_aux=True)(
      params
    )

  return c, jax.jit(run, compiler_options=small.QUICK)


def in_rows(c, *places):
  """Five rows that hold the documents at the given places; the rest are padding."""
  b = small.builder(c)
  packed = [[b.layout(DOCUMENTS[i], key=i) for i in row] for row in places]
  packed += [[]] * (len(DOCUMENTS) - len(packed))
  return rows.stack([b.row(layouts) for layouts in packed])


def close(one, other, rtol):
  """Relative to the largest entry of each array: sums are taken in another order."""
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    a, b = np.asarray(a), np.asarray(b)
    assert np.isfinite(a).all(), path
    assert abs(a - b).max() <= rtol * max(abs(b).max(), 1e-3), (path, a, b)


@pytest.mark.parametrize("name", CASES)
def test_packed_equals_unpacked(name):
  c, run = loss_and_gradient(name)
  params, key = small.params(c, 0), jax.random.key(1)
  one_a_row = run(params, in_rows(c, [0], [1], [2], [3], [4]), key)
  for places in ([[0, 1, 2], [4, 3]], [[3, 2, 1], [4], [0]]):
    packed = run(params, in_rows(c, *places), key)
    close(packed, one_a_row, rtol=2e-5)
  (loss, metrics), _ = one_a_row
  t = c.train
  means = {k: float(m.total / m.count) for k, m in metrics.items() if m.total.ndim == 0}
  assert means["loss"] == float(loss) and loss > 0
  if not t.z_loss:
    parts = t.text_loss_weight * means["text_nll"]
    parts += t.image_loss_weight * means["image_mse"]
    if c.model.sharing == "experts":
      parts += t.balance_loss_weight * means["balance_loss"]
      parts += t.router_z_loss * means["router_log_z"]
    np.testing.assert_allclose(loss, parts, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("lacks", ["images", "text", "both"])
def test_rows_that_lack_something_give_no_nan(name, lacks):
  c, run = loss_and_gradient(name)
  batch = in_rows(c, *{"images": [[2]], "text": [[3], [4]], "both": []}[lacks])
  if lacks == "text":
    batch = dataclasses.replace(batch, text_weight_BT=batch.text_weight_BT * 0)
  (loss, metrics), gradients = run(small.params(c, 0), batch, jax.random.key(0))
  norm = optax.tree.norm(gradients)
  assert np.isfinite(loss) and np.isfinite(norm)
  assert (loss == 0) == (norm == 0) == (lacks == "both")
  scalars = to_scalars(metrics)
  assert ("text_nll" in scalars) == (lacks == "images")
  assert ("image_mse" in scalars) == (lacks == "text")


@pytest.mark.parametrize("parts", [2, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
  "name", ["add-linear", "token-unet", pytest.param("experts", marks=pytest.mark.slow)]
)
def test_parts_of_a_batch_add_up(name, parts):
  """Gradient accumulation: exact denominators for both losses, whatever is where."""
  c, _ = loss_and_gradient(name)
  # Unequal parts: all images in some rows, only text or nothing in others.
  batch = in_rows(c, [2], [0, 1], [], [4], [3])
  batch = jax.tree.map(lambda *x: np.concatenate(x), batch, in_rows(c, [1], [2]))
  params, key, task = small.params(c, 0), jax.random.key(1), small.functions(c).task
  # The older emitters of the quick tests add up in a row: rounding of 3e-5 here.
  options = {**small.QUICK, "xla_cpu_use_fusion_emitters": True}

  def run(parts):
    return jax.jit(
      lambda p, b, k: step.gradients(p, task, b, k, parts), compiler_options=options
    )(params, batch, key)

  (grads, metrics), (whole_grads, whole_metrics) = run(parts), run(1)
  close(grads, whole_grads, rtol=1e-5)
  close(metrics, whole_metrics, rtol=1e-5)


@pytest.mark.parametrize("remat", ["full", "dots", "attention"])
def test_remat_changes_nothing_but_the_memory(remat):
  c, run = loss_and_gradient("add-linear")
  batch, key = in_rows(c, [0, 1], [4]), jax.random.key(1)
  other = dataclasses.replace(c, model=dataclasses.replace(c.model, remat=remat))
  part = functools.partial(
    step.loss_fn, config=other, model=small.functions(other).model
  )
  grad = jax.jit(
    lambda p: jax.value_and_grad(lambda q: part(q, batch=batch, key=key)[0])(p),
    compiler_options=small.QUICK,
  )
  params = small.params(c, 0)
  (loss, _), grads = run(params, batch, key)
  close(grad(params), (loss, grads), rtol=1e-5)
  saved = str(
    jax.make_jaxpr(jax.grad(lambda q: part(q, batch=batch, key=key)[0]))(params)
  )
  assert "checkpoint" in saved or "remat" in saved


def test_offloading_needs_a_device_with_a_host():
  c = small.scenes(model__remat="offload")
  functions = small.functions(c)
  with pytest.raises(ConfigError, match="remat='offload'.*use 'attention'"):
    functions.train(functions.init(), Loader(c).batch(0))


def test_noise_belongs_to_the_image_and_the_step():
  c, _ = loss_and_gradient("token-unet")
  corrupt = jax.jit(functools.partial(diffusion.corrupt, c))
  alone = in_rows(c, [0], [1], [2], [3], [4])
  packed = in_rows(c, [4, 0], [3, 1, 2])
  noised = {}
  for name, batch in {"alone": alone, "packed": packed}.items():
    for seed in (0, 1):
      inputs, epsilon = corrupt(jax.random.key(seed), batch)
      images = {}
      for b, t in np.argwhere(batch.patch_BT == 0):
        span = slice(t - 1, t + c.patches)  # with the time token
        assert len(set(np.asarray(inputs.time_BT[b, span]))) == 1, "one time an image"
        here = slice(t, t + c.patches)
        images[batch.image_key_BT[b, t]] = np.concatenate([
          np.asarray(inputs.time_BT[b, here, None]), epsilon[b, here]
        ], axis=-1)  # fmt: skip
      noised[name, seed] = images
  assert len(noised["alone", 0]) == 6
  for image, values in noised["alone", 0].items():
    assert (noised["packed", 0][image] == values).all()
    assert (noised["alone", 1][image] != values).all()
  times = {x[0, 0] for x in noised["alone", 0].values()}
  noises = {y for x in noised["alone", 0].values() for y in x[:, 1:].flat}
  assert len(times) == 6 and len(noises) == 6 * c.patches * c.patch_channels


@pytest.mark.parametrize("limit", [0.0, 0.3, 1.0])
def test_noise_limit(limit):
  """Context images stay below the limit; at 0 they are clean and train nothing."""
  c = small.config(data__noise_limit=limit, data__seq_len=64)
  documents = [small.describe("w", i) for i in range(3)] + [small.draw("w", 3)]
  batch = small.batch(c, *[[d] for d in documents] * 32)
  inputs, _ = jax.jit(functools.partial(diffusion.corrupt, c))(jax.random.key(0), batch)
  first = batch.patch_BT == 0
  time, target = np.asarray(inputs.time_BT)[first], batch.noise_limit_BT[first] == 1.0
  if limit == 1.0:
    assert target.all() and time.max() > 0.95
  else:
    assert target.mean() == 0.25 and time[target].max() > 0.9
    assert time[~target].max() <= limit
    assert limit == 0 or time[~target].max() > 0.9 * limit
  clean = (np.asarray(inputs.patches_BTC) == batch.patches_BTC).all(axis=-1)
  patch = batch.patch_BT >= 0
  context = patch & (batch.noise_limit_BT < 1)
  if limit == 0:
    assert clean[context].all() and not batch.image_weight_BT[context].any()
  assert not clean[patch & ~context].any()
  assert batch.image_weight_BT[patch & (batch.noise_limit_BT > 0)].all()
  assert (np.asarray(inputs.time_BT)[batch.span_BT < 0] == 0).all()


GOLDEN = {  # of step 0 and of step 5
  "loss": (15.3056, 7.18394),
  "text_nll": (6.09087, 4.07236),
  "image_mse": (1.84294, 0.622316),
  "grad_norm": (12.2138, 2.40595),
  "param_norm": (41.2635, 40.78),
  "tokens": (263, 301),
}


@functools.cache
def six_steps():
  """A run of six steps on scenes: (functions, state, scalars of every step)."""
  c = small.scenes()
  functions = small.functions(c)
  loader = Loader(c)
  state, history = functions.init(), []
  for i in range(6):
    state, metrics = functions.train(state, loader.batch(i))
    history.append(to_scalars(metrics))
  return functions, state, history


def test_golden_metrics():
  """The numbers of a run are part of the code: whoever changes them should know.

  After a deliberate change of data, initialisation, losses or optimizer, print
  `six_steps()[2]` and put the new values above.
  """
  history = six_steps()[2]
  got = {name: (history[0][name], history[5][name]) for name in GOLDEN}
  for name, values in GOLDEN.items():
    assert got[name] == pytest.approx(values, rel=1e-3), (
      f"{name} changed; if this was intended, the new values are {got}"
    )


def test_the_step_compiles_once_and_counts():
  functions, state, _ = six_steps()
  assert functions.train._cache_size() == 1
  assert int(state.step) == 6


def test_the_average_follows_the_weights_slowly():
  _, state, _ = six_steps()
  first = small.functions(small.scenes()).init()
  moved, followed = (
    float(optax.tree.norm(jax.tree.map(lambda a, b: a - b, x, first.params)))
    for x in (state.params, state.ema_params)
  )
  assert 0 < followed < moved
