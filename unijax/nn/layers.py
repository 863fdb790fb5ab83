"""Linear, RMS norm, embedding, gated MLP and the timestep embedding.

Every parameter is declared once, with the logical names of its axes; meshes map
those names to devices and nothing else does. Kernels are [in, out].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.nn.logical import constrain

TIME_FEATURES = 128  # sines and cosines of the timestep


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

  `scale` multiplies the standard deviation 1/sqrt(in) of the initial kernel.
  """

  features: int
  axes: tuple[str | None, str | None]
  dtype: jnp.dtype
  bias: bool = False
  scale: float = 1.0

  @nn.compact
  def __call__(self, x):
    shape = (x.shape[-1], self.features)
    kernel = param(self, "kernel", kernel_init(self.scale), shape, self.axes)
    y = matmul(x.astype(self.dtype), kernel.astype(self.dtype))
    if self.bias:
      bias = param(
        self, "bias", nn.initializers.zeros_init(), (self.features,), self.axes[1:]
      )
      y = y + bias.astype(self.dtype)
    return y


class RMSNorm(nn.Module):
  """Root-mean-square norm over the last axis, in float32 (Zhang & Sennrich 2019)."""

  eps: float
  axis: str = "norm"

  @nn.compact
  def __call__(self, x):
    scale = param(
      self, "scale", nn.initializers.ones_init(), (x.shape[-1],), (self.axis,)
    )
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
    return (y * scale).astype(x.dtype)


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

  def attend(self, h):
    """[..., width] -> float32 [..., size]."""
    return (h.astype(self.dtype) @ self.table.T.astype(self.dtype)).astype(jnp.float32)


class MLP(nn.Module):
  """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x)).

  `linear` is the kind of its three maps; what it needs besides x is passed on.
  """

  hidden: int
  width: int
  dtype: jnp.dtype
  out_scale: float
  linear: type[nn.Module] = Linear

  @nn.compact
  def __call__(self, x_BTD, *more):
    def linear(features, axes, name, scale=1.0):
      return self.linear(features, axes, self.dtype, scale=scale, name=name)

    gate = linear(self.hidden, ("embed", "mlp"), "gate")(x_BTD, *more)
    up = linear(self.hidden, ("embed", "mlp"), "up")(x_BTD, *more)
    hidden = constrain(nn.silu(gate) * up, "batch", "sequence", "act_mlp")
    down = linear(self.width, ("mlp", "embed"), "down", self.out_scale)
    return down(hidden, *more)


def time_features(time: jax.Array) -> jax.Array:
  """Sines and cosines of timesteps in [0, 1]: [...] -> float32 [..., TIME_FEATURES].

  Frequencies are geometric from 1 to 1000 radians a unit of time, so that both the
  whole trajectory and a thousandth of it are resolved.
  """
  half = TIME_FEATURES // 2
  frequencies = jnp.exp(jnp.linspace(0.0, jnp.log(1000.0), half))
  angle = time[..., None].astype(jnp.float32) * frequencies
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class TimeEmbedding(nn.Module):
  """Timestep in [0, 1] -> vector: two linear layers over sine features."""

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, time):
    rows = ("batch", "sequence")[: time.ndim]
    x = constrain(time_features(time), *rows, None)
    x = Linear(self.width, ("time", "embed"), self.dtype, bias=True, name="in")(x)
    # Left alone, XLA divides the width, and every device sums the vectors of all rows.
    x = constrain(nn.silu(x), *rows, "act_embed")
    x = Linear(self.width, ("embed", None), self.dtype, bias=True, name="out")(x)
    return constrain(x, *rows, "act_embed")
