"""Qwen2-VL (Wang et al. 2024): pictures of any shape, read by a Qwen2 decoder.

  unijax import qwen2_vl FOLDER --out=runs/qwen-vl
  unijax sample --workdir=runs/qwen-vl --image=cat.png --prompt="What is this?"

Folders of transformers (Qwen2VLForConditionalGeneration): names on disk and in memory,
config.json with `text_config` or with its fields at the top. Films are not read; of the
two frames of a patch both show the picture. See `_qwen_vl`.
"""

from ml_collections import ConfigDict

from configs.released import _qwen_vl, _towers
from configs.released._decoder import DROPS  # noqa: F401
from configs.released._qwen_vl import PREFIXES  # noqa: F401

KEYS = _qwen_vl.keys(("up", "fc1"), ("down", "fc2"))
SIZES = _qwen_vl.sizes("embed_dim")


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  width = published.get("vision_config.embed_dim", 1280)
  return _qwen_vl.get_config(
    published, width=width,
    mlp_width=int(width * published.get("vision_config.mlp_ratio", 4)),
    mlp=_towers.activation(published, "vision_config.hidden_act", "quick_gelu"),
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v = config.vision
  return _qwen_vl.to_published(
    config, "qwen2_vl", "Qwen2VLForConditionalGeneration", embed_dim=v.width,
    mlp_ratio=v.mlp_width // v.width, hidden_size=config.model.width,
    hidden_act=_towers.ACTIVATIONS_BACK[v.mlp],
  )  # fmt: skip


def _size(**words):
  eyes = {"embed_dim": 1280, "mlp_ratio": 4, "hidden_size": words["width"]}
  return _qwen_vl.size("qwen2_vl", eyes, **words)


PUBLISHED = {"2B": _size(**_qwen_vl.SMALL), "7B": _size(**_qwen_vl.MIDDLE)}
PARAMETERS = {"2B": 2_208_985_600, "7B": 8_291_375_616}
