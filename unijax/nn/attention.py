"""Multi-head attention over the row's own positions and a cache of earlier ones.

Whole rows, in training, go through `interval_attention`, which has three back ends of
one meaning; a call with a cache is short and takes the dense form, `attend`.
"""

import logging
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from unijax.config import ModelConfig
from unijax.nn import attention_splash, attention_tokamax, logical, masks, rope
from unijax.nn.attention_dense import attend, attention_weights
from unijax.nn.layers import BIASED, Linear, Norm
from unijax.nn.logical import constrain
from unijax.nn.masks import MaskUnsupportedError
from unijax.nn.modality import GroupedLinear, GroupedNorm, Groups

ATTENTION = "attention"  # what remat policies call the mixed values
WEIGHTS = "attention_weights"  # the collection that keeps them, for who asks
FASTEST = {"tpu": "splash", "gpu": "tokamax"}  # by platform; dense elsewhere


def pick_backend(c: ModelConfig, rows: int, length: int, hidden: bool = False) -> str:
  """Returns what mixes whole rows: dense, splash or tokamax.

  `auto` takes the fastest of the platform and, where that cannot do these shapes, says
  so and takes dense, which can do all.

  Args:
    c: names the back end.
    rows, length: of the call.
    hidden: whether some images are hidden, which makes the mask no interval.

  Raises:
    MaskUnsupportedError: `model.attention` names a back end that cannot, or images are
      hidden and it would not be dense: the slower path is taken by name only.
  """
  name = c.attention
  if name == "auto":
    name = FASTEST.get(logical.platform(), "dense")
  if name == "dense":
    return name
  if hidden:
    raise MaskUnsupportedError(
      f"model.attention={c.attention!r} is {name} on this platform, which computes "
      "intervals; with data.clean_copy=True the hidden noised copies make the mask "
      "none: take model.attention='dense', which is exact and slower (its memory grows "
      "with the square of data.seq_len), or data.clean_copy=False"
    )
  kernel = attention_splash if name == "splash" else attention_tokamax
  problems = _layout_problems(c, rows, length) + kernel.problems(length)
  if not problems:
    return name
  reasons = "\n  ".join(problems)
  if c.attention != "auto":
    raise MaskUnsupportedError(
      f"model.attention={name!r} cannot run here:\n  {reasons}\n"
      "Change these, or take model.attention='dense' (memory grows with the square "
      "of data.seq_len)."
    )
  logging.warning("model.attention: dense instead of %s:\n  %s", name, reasons)
  return "dense"


def _layout_problems(c: ModelConfig, rows: int, length: int) -> list[str]:
  """A kernel runs on equal parts: what does not divide over the mesh."""
  sizes = [
    ("train.batch_size: a call of", rows, "rows", "batch"),
    ("data.seq_len:", length, "positions", "sequence"),
    ("model.heads:", c.heads, "heads", "act_heads"),
  ]
  return [
    f"{knob} {size} {what} do not divide over {logical.ways(axis)} parts of the mesh"
    for knob, size, what, axis in sizes
    if size % logical.ways(axis)
  ]


def interval_attention(
  q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT, backend: str, lookahead: int, hidden_BT=None
) -> jax.Array:
  """Softmax attention of whole rows, in which query q sees keys start[q] to end[q].

  Args:
    q_BTHK: queries of positions 0 to T - 1, H = G * (queries a key head).
    k_BTGK, v_BTGK: keys and values of the same positions.
    start_BT, end_BT: int32, both inclusive, of `masks.intervals`. The kernels rely on
      what `masks.scheduled` checks.
    backend: dense, splash or tokamax, of `pick_backend`.
    lookahead: largest end - q.
    hidden_BT: of `masks.hidden_spans`: keys in the interval that are hidden all the
      same; dense only.

  Returns:
    [B, T, H, K] in the dtype of q.

  Raises:
    MaskUnsupportedError: something is hidden, and the back end is not dense.
  """
  if backend != "dense":
    if hidden_BT is not None:
      raise MaskUnsupportedError(f"{backend} computes intervals, and hides nothing")
    k_BTGK, v_BTGK = _copied_for_devices(k_BTGK), _copied_for_devices(v_BTGK)
  if backend == "splash":
    return attention_splash.attention(
      q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT, lookahead, ATTENTION
    )
  if backend == "tokamax":
    y_BTHK = attention_tokamax.attention(q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT)
  else:
    index = jnp.arange(k_BTGK.shape[1], dtype=jnp.int32)[None]
    mask_BTT = masks.allowed(start_BT, end_BT, index, hidden_BT)
    y_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, mask_BTT)
  return checkpoint_name(y_BTHK, ATTENTION)


def _copied_for_devices(x_BTGK):
  """Copies key heads until they divide over the devices that share the query heads."""
  heads, devices = x_BTGK.shape[2], logical.ways("act_heads")
  return jnp.repeat(x_BTGK, devices // math.gcd(heads, devices), axis=2)


class Attention(nn.Module):
  """Self-attention with optional rotary positions, QK-norm and a read-only cache.

  Weights of whole rows are kept in the collection WEIGHTS where that is mutable.

  `sees` is (start_BT, end_BT, hidden_BT or None) of whole rows or, with a cache, the
  mask [B, T, T] of this call's own keys. Returns the mixed values and this call's keys
  and values [B, T, G, K]; whether they are committed to the cache is the caller's
  business.

  With `groups`, x_BTD and the result are sorted by modality and the projections and
  norms have a copy for each; queries, keys and values are in the row's order.
  """

  config: ModelConfig
  out_scale: float
  backend: str
  lookahead: int

  @nn.compact
  def __call__(self, x_BTD, rotation, sees, cached=None, groups: Groups | None = None):
    c = self.config
    dtype = jnp.dtype(c.dtype)
    shape = x_BTD.shape[:2]
    linear, norm, more = Linear, Norm, ()
    if groups is not None:
      linear, norm, more = GroupedLinear, GroupedNorm, (groups,)

    biased = BIASED[c.bias].split()

    def project(name, heads, axis):
      axes, bias = ("embed", axis), name in biased
      project = linear(heads * c.head_dim, axes, dtype, bias=bias, name=name)
      return project(x_BTD, *more).reshape(*shape, heads, c.head_dim)

    q = project("q", c.heads, "heads")
    k = project("k", c.kv_heads, "kv_heads")
    v = project("v", c.kv_heads, "kv_heads")
    if c.qk_norm:
      about = c.qk_norm_eps or c.norm_eps, "head_norm", c.qk_norm_kind
      q = norm(*about, name="q_norm")(q, *more)
      k = norm(*about, name="k_norm")(k, *more)
    if groups is not None:
      q = groups.leave(q, "act_heads", None)
      k, v = (groups.leave(x, "act_kv_heads", None) for x in (k, v))
    if rotation is not None:
      q, k = rope.rotate(q, rotation), rope.rotate(k, rotation)
    if cached is not None:
      y = attend(q, k, v, sees, cached)
    else:
      # Queries stay where their positions are; keys and values of the row are gathered.
      q = constrain(q, "batch", "sequence", "act_heads", None)
      k, v = (constrain(x, "batch", "keys", "act_kv_heads", None) for x in (k, v))
      start_BT, end_BT, hidden_BT = sees
      if self.is_mutable_collection(WEIGHTS) and not self.is_initializing():
        index = jnp.arange(shape[1], dtype=jnp.int32)[None]
        mask_BTT = masks.allowed(start_BT, end_BT, index, hidden_BT)
        self.sow(WEIGHTS, "weights", attention_weights(q, k, mask_BTT))
      y = interval_attention(
        q, k, v, start_BT, end_BT, self.backend, self.lookahead, hidden_BT
      )
      y = constrain(y, "batch", "sequence", "act_heads", None)
    y = y.reshape(*shape, c.heads * c.head_dim)
    if groups is not None:
      y = groups.enter(y, "act_heads")
    out = linear(
      c.width, ("heads", "embed"), dtype,
      bias="out" in biased, scale=self.out_scale, name="out",
    )  # fmt: skip
    return out(y, *more), (k, v)
