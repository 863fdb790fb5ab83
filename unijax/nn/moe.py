"""Routed experts: each position goes through the few that a router chose for it.

Nothing is dropped: the assignments of positions to experts are sorted by expert and
each expert multiplies its run of them (`grouped.mlp`), however long it is. Over
the `expert` axis of the mesh, devices gather each other's positions, run their own
experts on them and add the results up where the positions live: the same sums as on
one device, at the price of room for the case that one device's experts get everything.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn import grouped, modality
from unijax.nn.layers import ACTIVATIONS, BIASED, MLP, Linear
from unijax.nn.modality import POSITIONS, Weights

ROUTING = "routing"  # the collection in which what routers said is kept
HIDDEN = {"swiglu": lambda gate, up: nn.silu(gate) * up, **ACTIVATIONS}
CLOSED = -1e30  # logit of an expert that a position may not go to


def _joint(image_BT, experts: int) -> jax.Array:
  return jnp.ones((*image_BT.shape, experts), bool)


def _by_modality(image_BT, experts: int) -> jax.Array:
  return (jnp.arange(experts) >= experts // 2) == image_BT[..., None]


# Which experts a position may go to: (bool [B, T], E) -> bool [B, T, E].
OPEN: dict[str, Callable] = {"joint": _joint, "by_modality": _by_modality}


def choose(logits_BTE, count: int, over: str) -> tuple[jax.Array, jax.Array]:
  """Picks the experts with the largest logits.

  Args:
    logits_BTE: float32, CLOSED for experts that are not to be had.
    count: how many, k.
    over: what the weights sum to 1 over: 'chosen' (Shazeer et al. 2017, eq. 3 to 5) or
      'all' (Fedus et al. 2021, eq. 1), which leaves the router a gradient even where it
      chooses one.

  Returns:
    (float32 weights, int32 numbers of the experts), both [B, T, k].
  """
  top_BTk, chosen_BTk = jax.lax.top_k(logits_BTE, count)
  weights = {
    "chosen": lambda: jax.nn.softmax(top_BTk, axis=-1),
    "all": lambda: jnp.exp(top_BTk - jax.nn.logsumexp(logits_BTE, -1, keepdims=True)),
  }[over]()
  return weights, chosen_BTk


class Experts(nn.Module):
  """Gated MLPs chosen by a router, and those that every position goes through.

  Router logits (float32 [B, T, E], as in Zoph et al. 2022) and choices are sown into
  the collection ROUTING, for losses and metrics.
  """

  config: ModelConfig
  out_scale: float

  @nn.compact
  def __call__(self, x_BTD, image_BT):
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    router = Linear(c.experts, ("embed", None), jnp.float32, name="router")
    logits_BTE = router(x_BTD)
    is_open = OPEN[c.expert_routing](image_BT, c.experts)
    logits_BTE = jnp.where(is_open, logits_BTE, CLOSED)
    weights_BTk, chosen_BTk = choose(logits_BTE, c.experts_per_token, c.expert_weights)
    self.sow(ROUTING, "logits", logits_BTE)
    self.sow(ROUTING, "chosen", chosen_BTk)

    wide, biased = c.expert_width, "up" in BIASED[c.bias].split()

    def weights(name, into, out, axes, scale=1.0):
      shape, axes = (c.experts, into, out), ("experts", *axes)
      found = Weights(shape, axes, scale, biased, name=name)()
      return [x if x is None else x.astype(dtype) for x in found]

    first = [
      weights(name, c.width, wide, ("embed", "mlp"))
      for name in (("gate", "up") if c.mlp == "swiglu" else ("up",))
    ]
    down, last = weights("down", wide, c.width, ("mlp", "embed"), self.out_scale)
    x = x_BTD.astype(dtype)
    if biased:  # a bias is a row of the kernel, which a 1 in the input meets
      x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
      first = [(jnp.concatenate([w, b[:, None]], axis=1),) for w, b in first]
    kernels = (*(w for w, *_ in first), down)
    y_BTD = _mixture(x, weights_BTk, chosen_BTk, kernels, c.mlp)
    if biased:
      mixed_BTE = jax.nn.one_hot(chosen_BTk, c.experts) * weights_BTk[..., None]
      y_BTD = y_BTD + mixed_BTE.sum(axis=2).astype(dtype) @ last
    if c.shared_experts:
      wide *= c.shared_experts
      every = MLP(wide, c.width, dtype, self.out_scale, c.mlp, biased, name="shared")
      y_BTD = y_BTD + every(x_BTD)
    return y_BTD


def _mixture(x_BTD, weights_BTk, chosen_BTk, kernels, kind: str):
  """The weighted sum of the chosen experts, over whatever mesh there is."""
  shape = x_BTD.shape
  over = modality.mesh_axes(shape, "act_experts")
  hidden = modality.mesh_axes(shape, "act_mlp")

  def local(x_BTD, weights_BTk, chosen_BTk, *kernels):
    x_MD = x_BTD.reshape(-1, x_BTD.shape[-1])
    weights_Mk, chosen_Mk = (
      a.reshape(len(x_MD), -1) for a in (weights_BTk, chosen_BTk)
    )
    if over:
      x_MD, weights_Mk, chosen_Mk = (
        jax.lax.all_gather(a, over, tiled=True) for a in (x_MD, weights_Mk, chosen_Mk)
      )
      chosen_Mk -= jax.lax.axis_index(over) * len(kernels[-1])
    y_MD = _dispatch(x_MD, weights_Mk, chosen_Mk, kernels, kind)
    if hidden:
      y_MD = jax.lax.psum(y_MD, hidden)
    if over:
      y_MD = jax.lax.psum_scatter(y_MD, over, tiled=True)
    return y_MD.reshape(*x_BTD.shape[:2], -1)

  positions = (*POSITIONS, None)
  into, out = ("act_experts", None, "act_mlp"), ("act_experts", "act_mlp", None)
  layout = *[positions] * 3, *[into] * (len(kernels) - 1), out
  apply = modality.over_positions(shape, local, layout, positions)
  return apply(x_BTD, weights_BTk, chosen_BTk, *kernels)


def _dispatch(x_MD, weights_Mk, chosen_Mk, kernels, kind: str):
  """Runs the experts that are here; choices outside 0 to E - 1 add nothing.

  `kernels` are gate (for a `kind` that has one), up and down.
  """
  M, k = chosen_Mk.shape
  *first, down_EFD = kernels
  E = len(down_EFD)
  expert = chosen_Mk.reshape(-1)
  expert = jnp.where((expert >= 0) & (expert < E), expert, E)
  order = jnp.argsort(expert, stable=True).astype(jnp.int32)
  place = grouped.inverse(order)
  sizes_E = (expert[:, None] == jnp.arange(E)).sum(axis=0, dtype=jnp.int32)
  x = grouped.permute(jnp.repeat(x_MD, k, axis=0), order, place)
  y = grouped.mlp(HIDDEN[kind], x, first, down_EFD, sizes_E)
  y = jnp.where((jnp.arange(M * k) < sizes_E.sum())[:, None], y, 0)
  y = grouped.permute(y, place, order).reshape(M, k, -1)
  return jnp.einsum("mkd,mk->md", y, weights_Mk.astype(y.dtype))
