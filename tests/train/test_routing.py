"""Laws of the losses and metrics of routed experts, on logits written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.nn import moe
from unijax.train import routing

E, K, N = 4, 2, 3


def config(how="joint", **knobs):
  return small.config(
    model__sharing="experts", model__experts=E, model__experts_per_token=K,
    model__expert_routing=how, train__balance_loss_weight=0.5,
    train__router_z_loss=0.25, **knobs,
  )  # fmt: skip


def batch(c):
  packed = [[small.plain("ab", 0, 1)], [small.plain("only text", id=1)]]
  return small.batch(c, *packed)


def said(c, b, logits_BTE):
  """What Experts would have sown in N layers alike."""
  is_open = moe.OPEN[c.model.expert_routing](jnp.asarray(b.span_BT >= 0), E)
  logits = jnp.where(is_open, jnp.asarray(logits_BTE, jnp.float32), moe.CLOSED)
  chosen = moe.choose(logits, K, "chosen")[1]
  layers = {"logits": (jnp.stack([logits] * N),), "chosen": (jnp.stack([chosen] * N),)}
  return {moe.ROUTING: {"transformer": {"blocks": {"mlp": layers}}}}


def losses(c, b, logits, total=None):
  loss, sums = routing.losses(c, said(c, b, logits), b, total)
  return float(loss), {k: float(s.mean()) for k, s in sums.items() if s.weight > 0}


@pytest.mark.parametrize("how", moe.OPEN)
def test_a_router_that_knows_nothing_costs_one(how):
  c = config(how)
  b = batch(c)
  loss, found = losses(c, b, np.zeros((*b.tokens_BT.shape, E)))
  pool = E if how == "joint" else E // 2
  np.testing.assert_allclose(found["balance_loss"], 1.0, rtol=1e-5)
  np.testing.assert_allclose(found["router_log_z"], np.log(pool) ** 2, rtol=1e-5)
  np.testing.assert_allclose(loss, 0.5 + 0.25 * np.log(pool) ** 2, rtol=1e-5)
  for name in ("text", "image"):
    np.testing.assert_allclose(found[f"router_entropy/{name}"], np.log(pool), rtol=1e-5)


def test_a_router_that_always_says_the_same_costs_the_most():
  c = config()
  b = batch(c)
  logits = np.zeros((*b.tokens_BT.shape, E))
  logits[..., 1] = logits[..., 2] = 30.0
  _, found = losses(c, b, logits)
  # Half of the choices and of the probability on each of two experts.
  np.testing.assert_allclose(found["balance_loss"], E * 2 * 0.5 * 0.5, rtol=1e-5)
  assert found["experts_dropped"] == 0


def test_load_by_modality_counts_choices_of_real_positions():
  c = config()
  b = batch(c)
  image, used = b.span_BT >= 0, b.segment_BT > 0
  logits = np.random.default_rng(0).standard_normal((*b.tokens_BT.shape, E))
  _, found = losses(c, b, logits)
  chosen = np.argsort(-logits, axis=-1)[..., :K]
  for name, there in (("text", used & ~image), ("image", used & image)):
    for e in range(E):
      share = (chosen[there] == e).sum() / (K * there.sum())
      np.testing.assert_allclose(found[f"expert_load/{name}/{e:02d}"], share, rtol=1e-5)


@pytest.mark.parametrize("how", moe.OPEN)
def test_parts_add_up_to_the_whole_batch(how):
  """Gradients too, since the load is that of the whole batch in both."""
  c = config(how)
  b = batch(c)
  logits = np.random.default_rng(0).standard_normal((*b.tokens_BT.shape, E)) * 2

  def loss(x, rows):
    part = jax.tree.map(lambda a: a[rows], b)
    total = routing.load(said(c, b, logits), b)
    return routing.losses(c, said(c, part, x[rows]), part, total)[0]

  whole, d_whole = jax.value_and_grad(loss)(jnp.asarray(logits), slice(0, 2))
  np.testing.assert_allclose(whole, losses(c, b, logits)[0], rtol=1e-6)
  parts = [
    jax.value_and_grad(loss)(jnp.asarray(logits), slice(i, i + 1)) for i in (0, 1)
  ]
  np.testing.assert_allclose(sum(p[0] for p in parts), whole, rtol=1e-5)
  np.testing.assert_allclose(sum(p[1] for p in parts), d_whole, rtol=1e-4, atol=1e-7)
  assert abs(d_whole).max() > 0


def test_nothing_routed_costs_nothing():
  c = small.config()
  loss, sums = routing.losses(c, {}, batch(c), None)
  assert loss == 0 and sums == {}
