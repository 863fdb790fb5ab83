"""Linear, norms, embedding and MLP.

Every parameter is declared once, with the logical names of its axes; meshes map
those names to devices and nothing else does. Kernels are [in, out]. What published
decoders and encoders do differently in these parts are entries of tables here.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax import low_rank
from unijax.nn import logical
from unijax.nn.logical import constrain

ACTIVATIONS = {  # of an MLP of two layers; `swiglu` has three
  "gelu": lambda x: nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
  "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),  # Hendrycks & Gimpel 2016
  "relu": nn.relu,
}
# Which maps of a decoder's block have a bias, by `model.bias`.
BIASED = {
  "none": "",
  "qkv": "q k v",
  "attention": "q k v out",
  "all": "q k v out gate up down",
}


def _kept(y):
  return y


def _all(x, axis):
  del axis
  return x


# Where a residual branch is normalised: before it (Xiong et al. 2020), after the sum
# (Vaswani et al. 2017), or at its end (Liu et al. 2022, "res-post-norm"). A gate acts
# on what is added.
ORDERS = {
  "pre": lambda x, branch, norm, gate=_kept: x + gate(branch(norm(x))),
  "post": lambda x, branch, norm, gate=_kept: norm(x + gate(branch(x))),
  "branch": lambda x, branch, norm, gate=_kept: x + gate(norm(branch(x))),
}


def param(module: nn.Module, name, init, shape, axes) -> jax.Array:
  """Declares a float32 parameter whose axes carry logical names."""
  return module.param(
    name, nn.with_logical_partitioning(init, axes), shape, jnp.float32
  )


@jax.custom_vjp
def matmul(x, w):
  """x_[..., in] @ w_[in, out], with a backward pass that XLA compiles well.

  The barrier keeps the elementwise gradient of whatever produced x out of the
  transpose that the weight gradient needs; fused into it, that part ran ten times
  slower on CPU and doubled the time of the whole step (BUILD_NOTES.md).
  """
  return x @ w


def _matmul_forward(x, w):
  return x @ w, (x, w)


def _matmul_backward(saved, dy):
  (x, w), dy = jax.lax.optimization_barrier((saved, dy))
  rows = tuple(range(x.ndim - 1))
  contract = ((rows, rows), ((), ()))
  if x.shape[-1] > dy.shape[-1]:  # the left operand is transposed: take the smaller
    dw = jax.lax.dot_general(dy, x, contract).T
  else:
    dw = jax.lax.dot_general(x, dy, contract)
  return dy @ w.T, dw


matmul.defvjp(_matmul_forward, _matmul_backward)


FEW_ROWS = 32  # of `turned_matmul`
TURNED = "kernel_turned"  # a kernel that is kept as [out, in]; see `infer.narrow.apart`


def turned_matmul(x, w):
  """x_[..., in] @ w_[out, in].T.

  With few rows XLA's CPU back end is twice as fast with the kernel on the left, which
  it then reads as it lies; the barrier keeps it from swapping the two back.
  """
  contract = ((x.ndim - 1,), (1,)), ((), ())
  if logical.platform() != "cpu" or x.size > FEW_ROWS * x.shape[-1]:
    return jax.lax.dot_general(x, w, contract)
  rows = x.reshape(-1, x.shape[-1])
  product = jax.lax.dot_general(w, rows, (((1,), (1,)), ((), ())))
  y = jax.lax.optimization_barrier(product)  # [out, rows]
  return y.T.reshape(*x.shape[:-1], -1)


def kernel_init(scale: float, stacked: int = 0):
  """Normal with standard deviation scale / sqrt(in), of kernels [..., in, out].

  `stacked` is how many axes stand before these two.
  """
  if scale == 0:
    return nn.initializers.zeros_init()
  return nn.initializers.variance_scaling(
    scale**2, "fan_in", "normal", batch_axis=tuple(range(stacked))
  )


class Linear(nn.Module):
  """x_[..., in] -> [..., features], computed in `dtype`.

  `scale` multiplies the standard deviation 1/sqrt(in) of the initial kernel. A kernel
  that was turned, to [out, in], is taken as it lies. `pick` takes some of an axis of
  outputs, which alone are computed then.
  """

  features: int
  axes: tuple[str | None, str | None]
  dtype: jnp.dtype
  bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x, pick=_all):
    x = x.astype(self.dtype)
    if self.has_variable("params", TURNED):
      kernel = pick(self.get_variable("params", TURNED), 0)
      y = turned_matmul(x, kernel.astype(self.dtype))
    else:
      shape = (x.shape[-1], self.features)
      kernel = param(self, "kernel", kernel_init(self.scale), shape, self.axes)
      y = matmul(x, pick(kernel, 1).astype(self.dtype))
    if (pair := low_rank.beside(self)) is not None:
      a, b = (w.astype(self.dtype) for w in pair)
      y = y + matmul(matmul(x, a), pick(b, 1))  # the kernel rests: it has no gradient
    if self.bias:
      bias = param(
        self, "bias", nn.initializers.zeros_init(), (self.features,), self.axes[1:]
      )
      y = y + pick(bias, 0).astype(self.dtype)
    return y


class NormKind(NamedTuple):
  """A kind of norm over the last axis.

  Attributes:
    centred: the mean is taken off first, and a bias added last.
    axes: last axes that scale and bias have: 2 is a set for each head.
  """

  centred: bool
  axes: int


NORMS = {
  "rms": NormKind(False, 1),  # Zhang & Sennrich 2019
  "layer": NormKind(True, 1),  # Ba et al. 2016
  "layer_heads": NormKind(True, 2),  # the same, and each head has its own scale
}


def normalized(x, kind: str, eps: float) -> jax.Array:
  """x / sqrt(mean square + eps) over the last axis, in float32."""
  y = x.astype(jnp.float32)
  if NORMS[kind].centred:
    y = y - y.mean(axis=-1, keepdims=True)
  return y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)


def affine(module: nn.Module, kind: str, shape, axis: str):
  """Declares the scale of a norm over arrays of a shape, and its bias or None."""
  shape = shape[-NORMS[kind].axes :]
  axes = (axis,) * len(shape)
  scale = param(module, "scale", nn.initializers.ones_init(), shape, axes)
  if not NORMS[kind].centred:
    return scale, None
  return scale, param(module, "bias", nn.initializers.zeros_init(), shape, axes)


class Norm(nn.Module):
  """A norm of a kind of `NORMS` over the last axis, in float32."""

  eps: float
  axis: str = "norm"
  kind: str = "rms"

  @nn.compact
  def __call__(self, x):
    scale, bias = affine(self, self.kind, x.shape, self.axis)
    y = normalized(x, self.kind, self.eps) * scale
    return (y if bias is None else y + bias).astype(x.dtype)


class RMSNorm(Norm):
  """Root-mean-square norm."""


class LayerNorm(Norm):
  """Mean and variance norm."""

  kind: str = "layer"


class Embedding(nn.Module):
  """A table of vectors: token ids in, vectors out; `attend` gives tied logits."""

  size: int
  width: int
  dtype: jnp.dtype
  axes: tuple[str, str] = ("vocab", "embed")

  def setup(self):
    init = nn.initializers.normal(0.02)
    self.table = param(self, "table", init, (self.size, self.width), self.axes)

  def __call__(self, ids):
    """int32 [...] -> [..., width]."""
    return jnp.take(self.table, ids, axis=0).astype(self.dtype)

  def attend(self, h, pick=_all):
    """[..., width] -> float32 [..., size], or of the rows that are picked."""
    table = pick(self.table, 0).astype(self.dtype)
    return turned_matmul(h.astype(self.dtype), table).astype(jnp.float32)


class MLP(nn.Module):
  """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x)); or one of `ACTIVATIONS`.

  `linear` is the kind of its maps; what it needs besides x is passed on.
  """

  hidden: int
  width: int
  dtype: jnp.dtype
  out_scale: float
  kind: str = "swiglu"
  bias: bool = False
  linear: type[nn.Module] = Linear

  @nn.compact
  def __call__(self, x_BTD, *more):
    def linear(features, axes, name, scale=1.0):
      of = self.linear(
        features, axes, self.dtype, bias=self.bias, scale=scale, name=name
      )
      return lambda x: of(x, *more)

    def into(name):
      return linear(self.hidden, ("embed", "mlp"), name)(x_BTD)

    if self.kind == "swiglu":
      hidden = nn.silu(into("gate")) * into("up")
    else:
      hidden = ACTIVATIONS[self.kind](into("up"))
    hidden = constrain(hidden, "batch", "sequence", "act_mlp")
    return linear(self.width, ("mlp", "embed"), "down", self.out_scale)(hidden)
