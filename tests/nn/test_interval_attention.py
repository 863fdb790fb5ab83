"""Law 1: every back end computes the interval mask, and none approximates it."""

import dataclasses
import functools
import importlib.util
import logging

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.nn import layouts
from tests.nn.layouts import LONGEST, T
from unijax.config import ConfigError
from unijax.nn import logical, masks
from unijax.nn.attention import interval_attention, pick_backend
from unijax.nn.masks import MaskUnsupportedError

ROWS = 50
FEW = 8  # of them: the hard ones and some more
TOKAMAX = pytest.mark.skipif(
  importlib.util.find_spec("tokamax") is None, reason="tokamax is not installed"
)
KERNELS = ["splash", pytest.param("tokamax", marks=TOKAMAX)]
SHAPES = {"grouped heads of 64": (2, 1, 64), "heads of 128": (2, 2, 128)}  # H, G, K


def arrays(rows, shape, seed=0):
  """Queries, keys, values and the weights of a loss, float32."""
  H, G, K = SHAPES[shape]
  keys = jax.random.split(jax.random.key(seed), 4)
  return tuple(
    jax.random.normal(key, (rows, T, heads, K))
    for key, heads in zip(keys, (H, G, G, H), strict=True)
  )


@functools.partial(jax.jit, static_argnums=0)
def run(backend, q, k, v, weight, start, end):
  """Returns the output and the gradients of its weighted sum: q, k, v."""

  def loss(q, k, v):
    out = interval_attention(q, k, v, start, end, backend, LONGEST - 1)
    return (out * weight).sum(), out

  (_, out), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(q, k, v)
  return out, gradients


def test_the_layouts_are_hard():
  start, end = layouts.intervals(ROWS)
  index = np.arange(T)
  assert (end - index).max() == LONGEST - 1 > 128  # a block
  assert (start[2] == index).all() and (end[2] == index).all()  # all padding
  assert (start[3][:250] == index[:250]).all()  # one-token documents
  assert end[1, 300] == T - 1  # an image at the end
  assert len({(*s, *e) for s, e in zip(start, end, strict=True)}) >= ROWS - 1


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize(
  ("shape", "image_mask", "rows"),
  [
    ("grouped heads of 64", "bidirectional", ROWS),
    ("heads of 128", "bidirectional", 6),
    ("heads of 128", "causal", 6),
  ],
)
def test_kernels_are_the_dense_form(backend, shape, image_mask, rows):
  inputs = (*arrays(rows, shape), *layouts.intervals(rows, image_mask))
  want, want_gradients = run("dense", *inputs)
  got, gradients = run(backend, *inputs)
  np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)
  for one, other in zip(gradients, want_gradients, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("backend", ["dense", *KERNELS])
def test_a_position_outside_the_interval_changes_not_one_bit(backend):
  start, end = layouts.intervals(FEW)
  q, k, v, weight = arrays(FEW, "grouped heads of 64")
  _, other_k, other_v, _ = arrays(FEW, "grouped heads of 64", seed=1)
  at = np.random.default_rng(1).integers(0, T, FEW)  # one position in each row
  here = (np.arange(T) == at[:, None])[..., None, None]
  sees = (start <= at[:, None]) & (at[:, None] <= end)  # [rows, T]
  before, gradients = run(backend, q, k, v, weight, start, end)
  k, v = jnp.where(here, other_k, k), jnp.where(here, other_v, v)
  after, _ = run(backend, q, k, v, weight, start, end)
  changed = np.asarray(before != after).any(axis=(2, 3))
  assert not (changed & ~sees).any() and (changed == sees).all()
  # Nor does the loss of queries that do not see it pull at it.
  blind = jnp.where(sees[..., None, None], 0.0, weight)
  _, (_, d_k, d_v) = run(backend, q, k, v, blind, start, end)
  rows = np.arange(FEW)
  assert not np.asarray(d_k)[rows, at].any() and not np.asarray(d_v)[rows, at].any()
  assert np.asarray(d_k).any() and np.asarray(d_v).any()


# -- what a kernel relies on -------------------------------------------------------------


def test_intervals_of_the_mask_are_lawful_for_kernels():
  for image_mask in ("bidirectional", "causal"):
    start, end = layouts.intervals(ROWS, image_mask)
    assert masks.scheduled(start, end, LONGEST - 1).all()
  start, end = layouts.intervals(ROWS)
  far = (end - np.arange(T)).max(axis=1) > 20
  assert far.any() and (masks.scheduled(start, end, 20) == ~far).all()


@pytest.mark.parametrize(
  ("start", "end"),
  [
    ([0, 0, 1, 0], [0, 1, 2, 3]),  # a document that is not contiguous
    ([0, 0, 2, 2], [0, 2, 2, 3]),  # an interval that ends in the next document
    ([0, 1, 1, 1], [0, 0, 2, 3]),  # one that is empty
  ],
)
def test_other_intervals_are_not(start, end):
  assert not masks.scheduled(np.array([start]), np.array([end]), 4)[0]
  assert masks.scheduled(np.array([[0, 0, 2, 2]]), np.array([[1, 1, 2, 3]]), 4)[0]


def model(**knobs):
  return small.config(
    data__seq_len=128, model__head_dim=64, model__width=64, **knobs
  )  # fmt: skip


def batch(c):
  return small.batch(c, [small.plain("ab", 0, 1, "c"), small.plain(2, "d", id=1)])


@pytest.mark.parametrize("time_injection", ["add", "token"])
def test_the_model_reads_the_same_through_splash(time_injection):
  outputs = {}
  for name in ("dense", "splash"):
    c = model(model__attention=name, model__time_injection=time_injection)
    inputs = small.inputs(c, batch(c))
    outputs[name] = small.forward(c)(small.params(c, seed=1), inputs)
  for got, want in zip(outputs["splash"], outputs["dense"], strict=True):
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_row_that_breaks_the_schedule_gives_no_number():
  c = model(model__attention="splash")
  inputs = small.inputs(c, batch(c))
  params = small.params(c, seed=1)
  assert np.isfinite(small.forward(c)(params, inputs)[0]).all()
  longer = np.maximum(inputs.end_BT, 40)  # further than an image of four patches
  logits, _ = small.forward(c)(params, inputs.replace(end_BT=longer))
  assert np.isnan(logits).all()


def shapes(jaxpr):
  """Shapes of everything that a program computes, in every part of it."""
  for equation in jaxpr.eqns:
    yield from (getattr(v.aval, "shape", ()) for v in equation.outvars)
    for sub in jax.extend.core.jaxprs_in_params(equation.params):
      yield from shapes(sub)


@pytest.mark.parametrize("backend", ["dense", "splash"])
def test_splash_makes_no_square_of_positions(backend):
  c = small.config(data__seq_len=T, model__head_dim=64, model__attention=backend)
  inputs = small.inputs(c, batch(c))
  module, params = small.functions(c).model, small.params(c, seed=1)
  loss = lambda p: sum(x.sum() for x in module.apply({"params": p}, inputs))
  made = set(shapes(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
  square = {s for s in made if s.count(T) > 1}
  assert bool(square) == (backend == "dense"), square


# -- which one, and what it refuses ------------------------------------------------------


def pick(monkeypatch, platform, attention="auto", length=256, **knobs):
  monkeypatch.setattr(logical, "platform", lambda: platform)
  c = dataclasses.replace(small.config().model, attention=attention, head_dim=64)
  return pick_backend(dataclasses.replace(c, **knobs), 2, length)


def test_auto_goes_by_platform(monkeypatch):
  assert pick(monkeypatch, "cpu") == "dense"
  assert pick(monkeypatch, "tpu") == "splash"
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
  assert pick(monkeypatch, "gpu") == "tokamax"


@pytest.mark.parametrize(
  ("platform", "name", "kernel"),
  [("tpu", "auto", "splash"), ("gpu", "auto", "tokamax"), ("cpu", "splash", "splash")],
)
def test_hidden_images_take_dense_by_name_only(monkeypatch, platform, name, kernel):
  monkeypatch.setattr(logical, "platform", lambda: platform)
  c = dataclasses.replace(small.config().model, attention=name, head_dim=64)
  message = rf"model.attention='{name}' is {kernel} .*take model.attention='dense'"
  with pytest.raises(MaskUnsupportedError, match=message):
    pick_backend(c, 2, 256, hidden=True)
  dense = dataclasses.replace(c, attention="dense")
  assert pick_backend(dense, 2, 256, hidden=True) == "dense"
  with pytest.raises(MaskUnsupportedError, match=kernel):
    interval_attention(*[None] * 3, None, None, kernel, 0, np.zeros((1, 1), np.int32))


def test_auto_says_why_it_takes_dense(monkeypatch, caplog):
  with caplog.at_level(logging.WARNING):
    assert pick(monkeypatch, "tpu", length=200) == "dense"
  assert "dense instead of splash" in caplog.text
  assert "data.seq_len: 200 must be a multiple of 128" in caplog.text


@pytest.mark.parametrize(
  ("platform", "name", "knobs", "message"),
  [
    ("cpu", "splash", {"length": 200}, "data.seq_len: 200 must be a multiple of 128"),
    ("gpu", "tokamax", {"length": 64}, "data.seq_len: 64 must be a multiple of 128"),
    ("gpu", "splash", {}, "model.attention: splash is a kernel for TPU"),
    ("tpu", "tokamax", {}, "model.attention: tokamax is used for GPU; TPU has splash"),
    ("gpu", "tokamax", {}, r"not installed: pip install 'unijax\[gpu-kernels\]'"),
  ],
)
def test_a_named_back_end_refuses_what_it_cannot_do(
  monkeypatch, platform, name, knobs, message
):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(MaskUnsupportedError, match=message) as error:
    pick(monkeypatch, platform, name, **knobs)
  assert isinstance(error.value, ConfigError)  # of the command line: exit code 2
  assert "model.attention='dense'" in str(error.value)
