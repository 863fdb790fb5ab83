"""Laws of routed experts: weights, nothing dropped, scale of fresh weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.nn import moe
from unijax.train import step

E, K = 6, 3


@pytest.mark.parametrize("routing", moe.OPEN)
@pytest.mark.parametrize("over", ["chosen", "all"])
def test_the_weights_of_the_chosen(routing, over):
  rng = np.random.default_rng(0)
  image = rng.random((2, 9)) < 0.5
  logits = rng.standard_normal((2, 9, E)).astype(np.float32)
  is_open = np.asarray(moe.OPEN[routing](jnp.asarray(image), E))
  logits = np.where(is_open, logits, moe.CLOSED)
  weights, chosen = (np.asarray(x) for x in moe.choose(jnp.asarray(logits), K, over))
  everything = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for b, t in np.ndindex(2, 9):
    best = set(np.argsort(-logits[b, t])[:K])
    assert set(chosen[b, t]) == best and len(best) == K
    if routing == "by_modality":  # the first half is for text
      assert all((e >= E // 2) == image[b, t] for e in best)
    want = everything[b, t][chosen[b, t]]
    want = want / want.sum() if over == "chosen" else want
    np.testing.assert_allclose(weights[b, t], want, rtol=1e-5)


@pytest.mark.parametrize("here", [range(4), range(2, 4), range(3, 4)])
def test_every_choice_reaches_its_expert(here):
  """However uneven: expert e multiplies by e + 1, so what came back says who was met."""
  M, D, k = 50, 3, 2
  rng = np.random.default_rng(0)
  x = rng.standard_normal((M, D)).astype(np.float32)
  for chosen in (rng.permuted(np.tile(np.arange(4), (M, 1)), axis=1)[:, :k],
                 np.tile([3, 0], (M, 1))):  # fmt: skip
    weights = rng.random((M, k)).astype(np.float32)
    scale = jnp.asarray([e + 1.0 for e in here]).reshape(-1, 1, 1)
    eye = jnp.broadcast_to(jnp.eye(D), (len(here), D, D))
    kernels = (eye, eye * scale, eye)  # silu(x) * (e + 1) x
    got = moe._dispatch(x, weights, chosen - min(here), kernels, "swiglu")
    factor = np.where(np.isin(chosen, list(here)), chosen + 1.0, 0.0)
    want = np.asarray(jax.nn.silu(x) * x) * (weights * factor).sum(1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_fresh_experts_have_the_scale_of_a_dense_mlp_and_differ():
  c = small.config(model__sharing="experts", model__expert_width=48, model__experts=4)
  f = small.functions(c)
  params = jax.jit(
    lambda: step.init_state(c, f.task, f.optimizer).params,
    compiler_options=small.QUICK,
  )()
  mlp = params["transformer"]["blocks"]["mlp"]
  deep = (2 * c.model.depth) ** -0.5
  for name, std in (("gate", 32**-0.5), ("up", 32**-0.5), ("down", 48**-0.5 * deep)):
    kernel = mlp[name]["kernel"]
    np.testing.assert_allclose(kernel.std((2, 3)), std, rtol=0.1)
    assert (kernel[:, 0] != kernel[:, 1]).all()
