"""Interval attention on GPU: tokamax's flash kernels, which take a key range a query.

tokamax (github.com/openxla/tokamax, extra `gpu-kernels`) is imported only when it is
used. `Mask(k_start, k_end)` is below its public API, hence the exact version in
pyproject.toml.
"""

import importlib.util

import jax

from unijax.nn import logical
from unijax.nn.masks import MaskUnsupportedError

# Hopper and Blackwell kernels, then the one for older cards. Elsewhere tokamax's own
# reference, which makes the T x T mask: for tests.
KERNELS = {"gpu": ("mosaic_gpu", "triton")}
BLOCK = 128  # positions that the ranges are reduced over


def problems(length: int) -> list[str]:
  """Returns why rows of `length` positions cannot be mixed here; empty if they can."""
  found = []
  if logical.platform() == "tpu":
    found.append("model.attention: tokamax is used for GPU; TPU has splash")
  if importlib.util.find_spec("tokamax") is None:
    found.append("tokamax is not installed: pip install 'unijax[gpu-kernels]'")
  ways = logical.ways("sequence")
  if length % (BLOCK * ways):
    parts = f" x {ways} parts of the mesh" if ways > 1 else ""
    found.append(f"data.seq_len: {length} must be a multiple of {BLOCK}{parts}")
  return found


def attention(q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT) -> jax.Array:
  """`unijax.nn.attention.interval_attention`.

  Raises:
    MaskUnsupportedError: no kernel of tokamax does this on the present card.
  """
  kernels, Mask = _load()
  K = q_BTHK.shape[-1]

  def rows(q, k, v, start, end):
    mask = Mask(k_start=start[:, None], k_end=end[:, None] + 1)
    refused = []
    for name in KERNELS.get(logical.platform(), ("xla",)):
      try:
        return kernels[name](q, k, v, mask=mask, logits_scale=K**-0.5)
      except NotImplementedError as error:
        refused.append(f"{name}: {error}")
    raise MaskUnsupportedError(
      "model.attention: tokamax has no kernel for this; take 'dense':\n  "
      + "\n  ".join(refused)
    )

  queries = ("batch", "sequence", "act_heads", None)
  keys = ("batch", "keys", "act_kv_heads", None)
  inputs = (queries, keys, keys, queries[:2], queries[:2])
  mixed = logical.per_device(rows, inputs, queries)
  return mixed(q_BTHK, k_BTGK, v_BTGK, start_BT, end_BT)


def _load():
  """Returns tokamax's kernels by name and its class of masks."""
  from absl import flags
  from tokamax._src.ops.attention.api import IMPLEMENTATIONS
  from tokamax._src.ops.attention.base import Mask

  if not flags.FLAGS.is_parsed():  # or it would parse the command line of unijax
    flags.FLAGS.mark_as_parsed()
  return IMPLEMENTATIONS, Mask
