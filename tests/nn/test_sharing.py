"""Laws of what text and images share, for every value of `model.sharing`.

The reference runs every copy over every position and picks: two full passes and a
select, with no order, no block and no group in it.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.nn import attention, modality, moe, sharing, transformer
from unijax.nn.modality import MODALITIES, Groups
from unijax.nn.sharing import SHARING
from unijax.train import step

SPLIT = [s for s in SHARING if s != "shared"]
COPIES = [s for s in SPLIT if s != "experts"]
DOCUMENTS = [small.plain("ab", 0, 1, "c"), small.plain(2, "d", id=1)]
ROUTED = dict(model__experts=4, model__expert_width=20, model__experts_per_token=2)
BUSY = dict(model__time_injection="adaln", model__kv_heads=2)
REMAT = {"full": "full", "ffn": "dots"}
RICH = dict(  # every part of a block that has a bias, and all of them have one
  model__norm="layer", model__qk_norm_kind="layer_heads", model__mlp="gelu_tanh",
  model__bias="all", model__head_bias=True,
)  # fmt: skip
VARIANTS = {  # the hardest of each
  **{
    s: dict(model__sharing=s, model__remat=REMAT.get(s, "none"), **BUSY) for s in COPIES
  },
  "experts": dict(model__sharing="experts", model__shared_experts=1, **ROUTED),
  "experts-by-modality": dict(
    model__sharing="experts", model__expert_routing="by_modality",
    model__expert_weights="all", **ROUTED,
  ),
  "full-rich": dict(
    model__sharing="full", model__block="branch", model__time_injection="adaln", **RICH
  ),
  "ffn-rich": dict(model__sharing="ffn", model__block="parallel", **RICH),
  "experts-rich": dict(
    model__sharing="experts", model__shared_experts=1, **ROUTED, **RICH
  ),
  "experts-gated-biases": dict(model__sharing="experts", model__bias="all", **ROUTED),
}  # fmt: skip
QUICK = ("full", "experts")  # compared by default


def config(**knobs):
  return small.config(**{"data__seq_len": 44, **knobs})


class TwoPasses(nn.Module):
  """`GroupedLinear`, by running both copies and picking."""

  features: int
  axes: tuple
  dtype: jnp.dtype
  bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x_BTD, groups):
    def one(name):
      return nn.Dense(self.features, use_bias=self.bias, name=name)(x_BTD)

    text, image = map(one, MODALITIES)
    return jnp.where(groups.image_BT[..., None], image, text)


class TwoNorms(nn.Module):
  """`GroupedNorm`, likewise."""

  eps: float
  axis: str = "norm"
  kind: str = "rms"

  @nn.compact
  def __call__(self, x, groups):
    def one(name):
      if self.kind == "rms":
        return nn.RMSNorm(epsilon=self.eps, name=name)(x)
      last = (-2, -1)[-1 if self.kind == "layer" else 0 :]
      norm = nn.LayerNorm(
        self.eps, feature_axes=last, reduction_axes=-1, use_fast_variance=False,
        name=name,
      )  # fmt: skip
      return norm(x)

    text, image = map(one, MODALITIES)
    is_image = groups.image_BT.reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    return jnp.where(is_image, image, text)


def every_expert(x_BTD, weights_BTk, chosen_BTk, kernels, kind):
  """`moe._mixture`, by running all experts on all positions."""
  *first, down = kernels
  into = [jnp.einsum("btd,edf->btef", x_BTD, kernel) for kernel in first]
  if kind == "swiglu":
    hidden = nn.silu(into[0]) * into[1]
  else:
    hidden = nn.gelu(into[0], approximate=kind == "gelu_tanh")
  y_BTED = jnp.einsum("btef,efd->bted", hidden, down)
  mixture = jax.nn.one_hot(chosen_BTk, len(down)) * weights_BTk[..., None]
  return jnp.einsum("btke,bted->btd", mixture, y_BTED)


def run(c, params, inputs):
  """Both heads and the gradients of all parameters."""
  model = small.functions(c).model

  def loss(p):
    logits, prediction = model.apply({"params": p}, inputs)
    return jnp.sin(logits).mean() + jnp.sin(prediction).mean(), (logits, prediction)

  grad = jax.jit(jax.grad(loss, has_aux=True), compiler_options=small.QUICK)
  gradients, outputs = grad(params)
  return outputs, gradients


def unsorted(image_BT):
  """`modality.sort`, leaving every position where it is."""
  same = jnp.arange(image_BT.size, dtype=jnp.int32).reshape(image_BT.shape)
  return Groups(image_BT, image_BT, same, same)


def reference(monkeypatch, *arguments):
  with monkeypatch.context() as m:
    m.setattr(attention, "GroupedLinear", TwoPasses)
    m.setattr(sharing, "GroupedLinear", TwoPasses)
    for module in (attention, transformer):
      m.setattr(module, "GroupedNorm", TwoNorms)
    m.setattr(modality, "sort", unsorted)
    m.setattr(moe, "_mixture", every_expert)
    return run(*arguments)


def close(one, other, rtol=2e-5):
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True
  ):
    a, b = np.asarray(a), np.asarray(b)
    assert abs(a - b).max() <= rtol * max(abs(b).max(), 1e-2), path


def rows(c, *packed):
  batch = small.batch(c, *(packed or (DOCUMENTS, [small.plain("xyz", 3)])))
  return small.inputs(c, batch, time=0.4 * (batch.span_BT >= 0))


@pytest.mark.parametrize(
  "name",
  [v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS],
)
def test_equals_running_every_copy_and_picking(name, monkeypatch):
  c = config(**VARIANTS[name])
  params, inputs = small.params(c, 0), rows(c)
  outputs, gradients = run(c, params, inputs)
  want = reference(monkeypatch, c, params, inputs)
  close(outputs, want[0])
  close(gradients, want[1], rtol=1e-4)
  assert all(float(abs(g).max()) > 0 for g in jax.tree.leaves(gradients))


def named(tree):
  return {jax.tree_util.keystr(p, simple=True, separator="/"): x
          for p, x in jax.tree.leaves_with_path(tree)}  # fmt: skip


def dense_name(path: str) -> str:
  """The parameter of the dense model that a copy is a copy of."""
  return "/".join(part for part in path.split("/") if part not in MODALITIES)


def copied(c, dense):
  """The parameters of `c` with every copy and every expert equal to the dense one's."""
  shapes = jax.eval_shape(small.functions(c).init).params
  have = named(dense)

  def one(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if "router" in name:
      return jax.random.normal(jax.random.key(0), leaf.shape)
    x = have[dense_name(name)]
    stacked = x.ndim == leaf.ndim - 1  # experts, after the layers
    return jnp.broadcast_to(x[:, None], leaf.shape) if stacked else x

  return jax.tree_util.tree_map_with_path(one, shapes)


@pytest.mark.parametrize("name", SHARING)
def test_equal_copies_are_the_dense_model(name):
  dense = config(model__time_injection="adaln")
  c = config(
    model__time_injection="adaln", model__sharing=name, model__experts=4,
    model__expert_width=dense.model.mlp_width,
  )  # fmt: skip
  params = small.params(dense, 0)
  inputs = rows(c)
  want, dense_gradients = run(dense, params, inputs)
  outputs, gradients = run(c, copied(c, params), inputs)
  close(outputs, want, rtol=1e-5)
  if name == "experts":
    return  # the gradient of an expert has the weights of the router in it
  total = {}
  for path, g in named(gradients).items():
    total[dense_name(path)] = total.get(dense_name(path), 0) + g
  close(total, named(dense_gradients))


@pytest.mark.parametrize("lacks", ["image", "text"])
@pytest.mark.parametrize("name", COPIES)
def test_a_batch_without_a_modality_leaves_its_copy_alone(name, lacks):
  c = config(model__sharing=name)
  inputs = rows(c, [small.plain("ab"), small.plain("only text", id=1)])
  if lacks == "text":
    everywhere = jnp.zeros_like(inputs.span_BT)
    inputs = inputs.replace(span_BT=everywhere)
  outputs, gradients = run(c, small.params(c, 0), inputs)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((outputs, gradients)))
  for path, g in named(gradients["transformer"]).items():
    if f"/{lacks}/" in path:
      assert (g == 0).all(), path
    elif any(f"/{m}/" in path for m in MODALITIES):
      assert (g != 0).any(), path


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_names_and_start_apart(name):
  """`*/text/*` names the whole text copy; copies are drawn as the dense model is."""

  def fresh(c):
    f = small.functions(c)
    init = functools.partial(step.init_state, c, f.task, f.optimizer)
    return named(jax.jit(init, compiler_options=small.QUICK)().params)

  dense = fresh(config())
  found = fresh(config(model__sharing=name))
  assert {dense_name(path) for path in found} == set(dense)
  texts = [path for path in found if "/text/" in path]
  split = {dense_name(path) for path in texts}
  mlps = {path for path in dense if "/mlp/" in path}
  everything = {p for p in dense if p.startswith("transformer/")}
  assert split == {"ffn": mlps, "full": everything}[name]
  for path in texts:
    text, image = found[path], found[path.replace("/text/", "/image/")]
    like = dense[dense_name(path)]
    assert text.shape == image.shape == like.shape
    if path.endswith("kernel"):
      assert (text != image).all(), path
      for x in (text, image):
        np.testing.assert_allclose(x.std(), like.std(), rtol=0.1, err_msg=path)
