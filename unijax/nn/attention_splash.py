"""Interval attention on TPU: JAX's Splash kernel, with intervals given at run time.

Splash compares `key <= q_sequence[query] + offset` inside the kernel, and q_sequence is
an array like any other: it carries the end of each query's interval. The start follows
from segment ids, since documents are contiguous: two positions are in one document if
and only if their intervals start at the same place. Padding, which starts at itself, is
a segment of its own.

Which blocks are visited is fixed when compiling: those of a causal mask that looks
ahead by the longest image. No array of T x T is made, forward or backward.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as splash,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as static_masks,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask_info as mask_info,
)

from unijax.nn import logical

BLOCKS = (512, 256, 128)  # positions a block: the largest that divides is taken


def problems(length: int) -> list[str]:
  """Returns why rows of `length` positions cannot be mixed here; empty if they can.

  Heads of every width compile for TPU (8 to 256 tried). On a CPU the kernel is
  interpreted: exact, and slow.
  """
  found = []
  if logical.platform() == "gpu":
    found.append("model.attention: splash is a kernel for TPU")
  ways = logical.ways("sequence")
  if length % (BLOCKS[-1] * ways):
    parts = f" x {ways} parts of the mesh" if ways > 1 else ""
    found.append(
      f"data.seq_len: {length} must be a multiple of {BLOCKS[-1]} positions{parts}"
    )
  return found


def attention(
  q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT, lookahead: int, name: str
) -> jax.Array:
  """`unijax.nn.attention.interval_attention`; `name` is that of the saved residuals."""
  T, H, K = q_BTHK.shape[1:]
  schedule, options = _kernel(
    T, lookahead, logical.ways("sequence"), logical.platform() != "tpu"
  )
  G, tensor = k_BTGK.shape[2], logical.ways("act_heads")
  if G % tensor:  # fewer key heads than devices: each gets a copy of what it needs
    copies = tensor // np.gcd(G, tensor)
    k_BTGK, v_BTGK = (jnp.repeat(x, copies, axis=2) for x in (k_BTGK, v_BTGK))

  def rows(schedule, q, k, v, start_of_query, start_of_key, end):
    def row(q_HTK, k_GSK, v_GSK, start_of_query_T, start_of_key_S, end_T):
      infos = [x._replace(q_sequence=end_T - lookahead) for x in schedule]
      kernel = splash.SplashAttentionKernel(
        *infos, **options, residual_checkpoint_name=name
      )
      segments = splash.SegmentIds(start_of_query_T, start_of_key_S)
      return kernel(q_HTK, k_GSK, v_GSK, segments)

    heads_first = [x.swapaxes(1, 2) for x in (q, k, v)]
    out = jax.vmap(row)(*heads_first, start_of_query, start_of_key, end)
    return out.swapaxes(1, 2)

  queries = ("batch", "sequence", "act_heads", None)
  keys = ("batch", "keys", "act_heads", None)
  by_query, by_key = queries[:2], keys[:2]
  mixed = logical.per_device(
    rows, ((None, "sequence"), queries, keys, keys, by_query, by_key, by_query), queries
  )
  return mixed(schedule, q_BTHK * K**-0.5, k_BTGK, v_BTGK, start_BT, start_BT, end_BT)


@functools.lru_cache(maxsize=64)
def _kernel(length: int, lookahead: int, shards: int, interpret: bool):
  """Returns (the blocks that forward, dq and dkv visit, the kernel's options).

  Arrays of the schedule are NumPy's, so that they may be kept from trace to trace;
  their second axis is blocks of queries, and each shard of a row has its own part.
  """
  block_q = next(b for b in BLOCKS if length // shards % b == 0)
  block_kv = next(b for b in BLOCKS if length % b == 0)
  sizes = splash.BlockSizes(
    block_q=block_q, block_kv=block_kv, block_q_dq=block_q, block_kv_dq=block_kv,
    block_q_dkv=block_q, block_kv_dkv=block_kv,
  )  # fmt: skip
  band = static_masks.CausalMask((length, length), offset=lookahead)
  every_head = static_masks.MultiHeadMask([band])
  schedule = []
  for process in (
    mask_info.process_mask, mask_info.process_mask, mask_info.process_mask_dkv,
  ):  # fmt: skip
    info, predicate = process(every_head, (block_q, block_kv), q_seq_shards=shards)
    # Inside a block that the band fills, an interval may still end: compare there too.
    schedule.append(
      info._replace(q_sequence=None, block_mask=np.minimum(info.block_mask, 1))
    )
  options = dict(
    block_sizes=sizes, is_mqa=False, save_residuals=False,
    mask_value=splash.DEFAULT_MASK_VALUE, attn_logits_soft_cap=None,
    mask_function=predicate, interpret=interpret,
  )  # fmt: skip
  return tuple(schedule), options
