"""Qwen2.5-VL (Bai et al. 2025): Qwen2-VL, with windows in most blocks of its encoder.

  unijax import qwen2_5_vl FOLDER --out=runs/qwen-vl
  unijax sample --workdir=runs/qwen-vl --image=cat.png --prompt="What is this?"

Folders of transformers (Qwen2_5_VLForConditionalGeneration), as in qwen2_vl.py. Windows
are a mask here, over patches in the order of the picture; the library moves those of a
window together, which computes the same.
"""

from ml_collections import ConfigDict

from configs.released import _qwen_vl
from configs.released._decoder import DROPS  # noqa: F401
from configs.released._qwen_vl import PREFIXES  # noqa: F401

KEYS = _qwen_vl.keys(("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj"))
SIZES = _qwen_vl.sizes("hidden_size")
WHOLE = (7, 15, 23, 31)


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("vision_config.hidden_act", "silu")
  patch = published.get("vision_config.patch_size", 14)
  window = published.get("vision_config.window_size", 112)
  return _qwen_vl.get_config(
    published, width=published["vision_config.hidden_size"], mlp="swiglu",
    mlp_width=published.get("vision_config.intermediate_size", 3420), norm_kind="rms",
    window=window // (2 * patch) * 2,
    whole_blocks=tuple(published.get("vision_config.fullatt_block_indexes", WHOLE)),
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v = config.vision
  return _qwen_vl.to_published(
    config, "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", hidden_size=v.width,
    intermediate_size=v.mlp_width, out_hidden_size=config.model.width,
    hidden_act="silu", window_size=v.window * v.patch_size,
    fullatt_block_indexes=list(v.whole_blocks),
  )  # fmt: skip


def _size(**words):
  eyes = {
    "hidden_size": 1280, "intermediate_size": 3420, "window_size": 112,
    "out_hidden_size": words["width"], "fullatt_block_indexes": list(WHOLE),
  }  # fmt: skip
  return _qwen_vl.size("qwen2_5_vl", eyes, **words)


PUBLISHED = {"7B": _size(**_qwen_vl.MIDDLE)}
PARAMETERS = {"7B": 8_292_166_656}
