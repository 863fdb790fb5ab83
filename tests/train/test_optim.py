"""Laws of the optimizer: what decays, what Muon trains, schedules, clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.train.optim import make_optimizer, make_schedule


def config(**knobs):
  return small.config(
    optim__warmup_steps=0, optim__learning_rate=0.5, optim__final_fraction=0.1,
    optim__schedule="constant", model__patch_position="learned",
    model__time_injection="adaln", train__steps=100, **knobs,
  )  # fmt: skip


def update(c, gradients, params):
  """The first update."""
  optimizer = make_optimizer(c)

  def run(gradients, params):
    return optimizer.update(gradients, optimizer.init(params), params, step=0)[0]

  return jax.jit(run, compiler_options=small.QUICK)(gradients, params)


def named(tree):
  return {
    "/".join(k.key for k in path): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_shrinks_matrices_only(name):
  c = config(optim__name=name, optim__weight_decay=0.1)
  params = small.params(c, 0)
  zero = jax.tree.map(jnp.zeros_like, params)
  for path, change in named(update(c, zero, params)).items():
    decays = path.endswith("kernel") or (path.endswith("table") and name == "adamw")
    if name == "muon":  # tables and heads are trained by Adam without decay
      decays = path.endswith("kernel") and "blocks" in path
    want = -0.5 * 0.1 * named(params)[path] if decays else 0 * change
    np.testing.assert_allclose(change, want, atol=1e-6, err_msg=path)


def test_muon_orthogonalises_each_layer_of_the_blocks():
  c = config(optim__name="muon", optim__weight_decay=0.0, optim__clip_norm=1e9)
  params = small.params(c, 0)
  found = named(update(c, small.params(c, 1), params))
  muon, adam = [], []
  for path, change in found.items():
    if "blocks" in path and path.endswith("kernel"):
      muon.append(path)
      for layer in np.asarray(change):
        singular = np.linalg.svd(layer, compute_uv=False)
        assert singular.max() / singular.min() < 3, path  # Newton-Schulz is rough
    else:
      adam.append(path)
  assert len(muon) == 7 and "embedding/table" in adam and "text_head/kernel" in adam
  rate = c.optim.adam_learning_rate
  for path in adam:  # Adam's first update moves every number by about its rate
    change = abs(np.asarray(found[path]))
    assert 0.9 * rate < change.min() and change.max() < 2 * rate, path


def test_clipping_bounds_the_global_gradient():
  c = config(optim__name="adamw", optim__weight_decay=0.0, optim__eps=1.0)
  params = small.params(c, 0)
  big = jax.tree.map(lambda x: 1e3 * x, params)
  bigger = jax.tree.map(lambda x: 1e5 * x, params)
  one, other = update(c, big, params), update(c, bigger, params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), one, other)
  small_ = jax.tree.map(lambda x: 1e-4 * x, params)
  smaller = jax.tree.map(lambda x: 1e-5 * x, params)
  one, other = update(c, small_, params), update(c, smaller, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, 10 * b, rtol=1e-2, atol=1e-9), one, other
  )


@pytest.mark.parametrize(
  ("name", "middle", "last"),
  [("constant", 0.5, 0.5), ("linear", 0.275, 0.05), ("cosine", 0.275, 0.05)],
)
def test_schedules(name, middle, last):
  c = config()
  rate = make_schedule(
    small.config(
      optim__warmup_steps=10, optim__schedule=name, optim__final_fraction=0.1
    ).optim,
    c.train.steps, 0.5,
  )  # fmt: skip
  got = [float(rate(i)) for i in (0, 5, 10, 55, 100)]
  np.testing.assert_allclose(got, [0.0, 0.25, 0.5, middle, last], atol=1e-6)
  rates = [float(rate(i)) for i in range(10, 101)]
  assert rates == sorted(rates, reverse=True)
