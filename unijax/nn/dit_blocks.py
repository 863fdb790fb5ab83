"""The blocks of a diffusion transformer: how patches and their condition mix.

Every branch of a block is shifted, scaled and gated by a vector of the timestep and
the pooled condition (AdaLN-zero, Peebles & Xie 2023, section 3.2); the gates begin at
zero, so a fresh block is the identity. Norms have no parameters of their own.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from unijax.config import DitConfig, ModelConfig
from unijax.nn import rope
from unijax.nn.attention import interval_attention
from unijax.nn.attention_dense import attend
from unijax.nn.layers import Linear, RMSNorm, param
from unijax.nn.logical import constrain
from unijax.types import Array

PARTS = 6  # shift, scale and gate of two branches


@flax.struct.dataclass
class Condition:
  """What a picture is drawn from: in row b the first length_B[b] of S vectors."""

  vectors_BSE: Array
  length_B: Array  # int32; 0 is a picture of nothing in particular
  pooled_BE: Array | None = None  # one vector of the whole, where dit.pooled_width asks

  def real_BS(self) -> jax.Array:
    """bool [B, S], True where a vector is part of the condition."""
    return jnp.arange(self.vectors_BSE.shape[1]) < self.length_B[:, None]

  def mean_BE(self) -> jax.Array:
    """The mean of the vectors that are part of the condition; zero of none."""
    total = jnp.where(self.real_BS()[..., None], self.vectors_BSE, 0).sum(axis=1)
    return total / jnp.maximum(self.length_B, 1)[:, None].astype(total.dtype)


def norm_eps(config: DitConfig, model: ModelConfig) -> float:
  """What is added in norms."""
  return config.norm_eps or model.norm_eps


class Fitted(nn.Module):
  """A condition at the widths that a transformer is told in, by a linear map of each.

  Where `dit.condition_width` and `dit.pooled_width` say nothing, it is left as it is.
  """

  config: DitConfig
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, condition: Condition) -> Condition:
    def linear(width: int, name: str, x):
      return Linear(width, ("embed", None), self.dtype, bias=True, name=name)(x)

    c, told = self.config, condition
    if c.pooled_width:
      mean = condition.mean_BE()
      told = told.replace(pooled_BE=linear(c.pooled_width, "pooled", mean))
    if c.condition_width:
      vectors = linear(c.condition_width, "vectors", condition.vectors_BSE)
      told = told.replace(vectors_BSE=vectors)
    return told


@flax.struct.dataclass
class Steer:
  """What moves all blocks: the vector, and its projection where blocks share one."""

  vector_BD: Array
  shared_BMD: Array | None  # [B, PARTS, D]


class Modulation(nn.Module):
  """Steer -> `parts` changes, each [B, 1, D] and zero at first.

  A projection of the block's own, or an offset to the shared one (Chen et al. 2023,
  PixArt-alpha, section 2.3).
  """

  parts: int
  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, steer: Steer) -> list[jax.Array]:
    if steer.shared_BMD is None:
      y = Linear(
        self.parts * self.width, ("embed", "mlp"), self.dtype, bias=True, scale=0.0,
        name="linear",
      )(nn.silu(steer.vector_BD))  # fmt: skip
      y_BMD = y.reshape(-1, self.parts, self.width)
    else:
      offset = param(
        self, "offset", nn.initializers.zeros_init(), (self.parts, self.width),
        (None, "embed"),
      )  # fmt: skip
      y_BMD = steer.shared_BMD[:, : self.parts] + offset.astype(self.dtype)
    return [y_BMD[:, i : i + 1] for i in range(self.parts)]


def change(x_BTD, shift_B1D, scale_B1D, eps: float) -> jax.Array:
  """Layer norm without parameters, in float32, then scaled and shifted."""
  x = x_BTD.astype(jnp.float32)
  x = x - x.mean(axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
  return x.astype(x_BTD.dtype) * (1 + scale_B1D) + shift_B1D


class Projections(nn.Module):
  """Queries, keys and values of one stream, or those of them that are asked for."""

  config: DitConfig
  model: ModelConfig
  names: str = "qkv"

  @nn.compact
  def __call__(self, x_BTD, rotation=None) -> list[jax.Array]:
    """[B, T, D] -> for each name [B, T, H, K]; `rotation` turns queries and keys."""
    c, result = self.config, []
    for name in self.names:
      y = Linear(
        c.width, ("embed", "heads"), jnp.dtype(self.model.dtype), bias=True, name=name
      )(x_BTD)
      y = y.reshape(*y.shape[:2], c.heads, c.width // c.heads)
      if name != "v":
        if c.qk_norm:
          eps = norm_eps(c, self.model)
          y = RMSNorm(eps, "head_norm", name=f"{name}_norm")(y)
        if rotation is not None:
          y = rope.rotate(y, rotation)
      result.append(y)
    return result


def mix(q_BTHK, k_BTHK, v_BTHK, end_B, backend: str) -> jax.Array:
  """Every position sees positions 0 to end_B - 1 of its row: [B, T, D].

  What stands behind them is padding, which also sees itself and is never seen.
  """
  B, T = q_BTHK.shape[:2]
  index = jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (B, T))
  start, end = jnp.zeros_like(index), jnp.maximum(index, end_B[:, None] - 1)
  q = constrain(q_BTHK, "batch", "sequence", "act_heads", None)
  k, v = (constrain(x, "batch", "keys", "act_kv_heads", None) for x in (k_BTHK, v_BTHK))
  y = interval_attention(q, k, v, start, end, backend, T - 1)
  return constrain(y, "batch", "sequence", "act_heads", None).reshape(B, T, -1)


def _longer(x_BTHK, more: int):
  return jnp.pad(x_BTHK, ((0, 0), (0, more), (0, 0), (0, 0)))


class GeluMLP(nn.Module):
  """down(gelu(up(x)))."""

  hidden: int
  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x_BTD):
    y = Linear(self.hidden, ("embed", "mlp"), self.dtype, bias=True, name="up")(x_BTD)
    y = constrain(nn.gelu(y), "batch", "sequence", "act_mlp")
    return Linear(self.width, ("mlp", "embed"), self.dtype, bias=True, name="down")(y)


class _Block(nn.Module):
  """What all kinds of block are made of."""

  config: DitConfig
  model: ModelConfig
  backend: str

  def modulation(self, name: str, parts: int = PARTS) -> Modulation:
    return Modulation(parts, self.config.width, jnp.dtype(self.model.dtype), name=name)

  def projections(self, name: str, names: str = "qkv") -> Projections:
    return Projections(self.config, self.model, names, name=name)

  def out(self, name: str, axis: str = "heads", scale: float = 1.0) -> Linear:
    return Linear(
      self.config.width, (axis, "embed"), jnp.dtype(self.model.dtype), bias=True,
      scale=scale, name=name,
    )  # fmt: skip

  def mlp(self, name: str) -> GeluMLP:
    c = self.config
    return GeluMLP(c.mlp_width, c.width, jnp.dtype(self.model.dtype), name=name)

  def change(self, x_BTD, shift, scale):
    return change(x_BTD, shift, scale, norm_eps(self.config, self.model))


class CrossBlock(_Block):
  """Patches attend to each other, then to the condition, which stays as it is.

  The step to the condition ends in a projection that begins at zero instead of a gate
  (PixArt-alpha, section 2.3).
  Call: (x_BPD, condition, steer, rotation) -> (x_BPD, None).
  """

  @nn.compact
  def __call__(self, x_BPD, condition: Condition, steer: Steer, rotation):
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation("modulation")(
      steer
    )
    B, P = x_BPD.shape[:2]
    qkv = self.projections("self")(self.change(x_BPD, shift, scale), rotation)
    whole = jnp.full(B, P, jnp.int32)
    x_BPD = x_BPD + gate * self.out("self_out")(mix(*qkv, whole, self.backend))

    (q,) = self.projections("cross_q", "q")(x_BPD)
    k, v = self.projections("cross_kv", "kv")(condition.vectors_BSE)
    sees_BPS = jnp.broadcast_to(
      condition.real_BS()[:, None], (B, P, condition.vectors_BSE.shape[1])
    )
    y = attend(q, k, v, sees_BPS).reshape(B, P, -1)
    some = (condition.length_B > 0)[:, None, None]  # softmax over nothing is no zero
    x_BPD = x_BPD + jnp.where(some, self.out("cross_out", scale=0.0)(y), 0)

    y = self.mlp("mlp")(self.change(x_BPD, mlp_shift, mlp_scale))
    return constrain(x_BPD + mlp_gate * y, "batch", "sequence", "act_embed"), None


class DoubleBlock(_Block):
  """Two streams with weights of their own, and one attention over both.

  Esser et al. 2024, figure 2b. In a block after which nothing reads the condition
  (`last`) that stream gives keys and values only, and perhaps queries for nothing.
  Call: ((x_BPD, y_BSD), end_B, steer, rotation) -> (the same pair, None).
  """

  last: bool = False
  dual: bool = False

  @nn.compact
  def __call__(self, streams, end_B, steer: Steer, rotation):
    x_BPD, y_BSD = streams
    P = x_BPD.shape[1]
    mx = self.modulation("patch_modulation", PARTS + 3 * self.dual)(steer)
    my = self.modulation("condition_modulation", 2 if self.last else PARTS)(steer)
    q, k, v = self.projections("patch")(self.change(x_BPD, *mx[:2]), rotation)
    silent = self.last and not self.config.last_queries
    names = "kv" if silent else "qkv"
    others = self.projections("condition", names)(self.change(y_BSD, *my[:2]))
    k, v = (jnp.concatenate(x, axis=1) for x in zip((k, v), others[-2:], strict=True))
    if silent:  # kernels want as many queries as keys
      q = _longer(q, y_BSD.shape[1])
    else:
      q = jnp.concatenate([q, others[0]], axis=1)
    z_BTD = mix(q, k, v, end_B, self.backend)
    own = self._own(x_BPD, mx[6:], y_BSD.shape[1], rotation) if self.dual else 0
    x_BPD = x_BPD + mx[2] * self.out("patch_out")(z_BTD[:, :P]) + own
    x_BPD = x_BPD + mx[5] * self.mlp("patch_mlp")(self.change(x_BPD, *mx[3:5]))
    if not self.last:
      y_BSD = y_BSD + my[2] * self.out("condition_out")(z_BTD[:, P:])
      y = self.mlp("condition_mlp")(self.change(y_BSD, *my[3:5]))
      y_BSD = y_BSD + my[5] * y
    x_BPD = constrain(x_BPD, "batch", "sequence", "act_embed")
    return (x_BPD, constrain(y_BSD, "batch", "sequence", "act_embed")), None

  def _own(self, x_BPD, changes, more: int, rotation):
    """What patches say among themselves; `more` positions make it as long as all."""
    B, P = x_BPD.shape[:2]
    shift, scale, gate = changes
    qkv = self.projections("own")(self.change(x_BPD, shift, scale), rotation)
    whole = jnp.full(B, P, jnp.int32)
    z_BTD = mix(*(_longer(x, more) for x in qkv), whole, self.backend)
    return gate * self.out("own_out")(z_BTD[:, :P])


class DualBlock(DoubleBlock):
  """The same; patches attend to themselves besides, with weights of their own.

  MMDiT-X of Stable Diffusion 3.5 medium (Stability AI 2024).
  """

  dual: bool = True


class SingleBlock(_Block):
  """Patches and condition as one stream, attention and MLP side by side.

  Black Forest Labs 2024, FLUX.1; parallel branches as in Dehghani et al. 2023.
  Call: (z_BTD, end_B, steer, rotation) -> (z_BTD, None).
  """

  @nn.compact
  def __call__(self, z_BTD, end_B, steer: Steer, rotation):
    c, dtype = self.config, jnp.dtype(self.model.dtype)
    shift, scale, gate = self.modulation("modulation", 3)(steer)
    y = self.change(z_BTD, shift, scale)
    mixed = mix(*self.projections("self")(y, rotation), end_B, self.backend)
    hidden = Linear(c.mlp_width, ("embed", "mlp"), dtype, bias=True, name="up")(y)
    hidden = constrain(nn.gelu(hidden), "batch", "sequence", "act_mlp")
    y = self.out("out", "mlp")(jnp.concatenate([mixed, hidden], axis=-1))
    return constrain(z_BTD + gate * y, "batch", "sequence", "act_embed"), None
