"""What studies share: the config that most vary, sizes, scenes in two sources."""

import copy

from ml_collections import ConfigDict

from configs import transfusion
from unijax.sweep.points import Point, param, zipped

SCORES = ("iid draw", "combo draw", "iid describe", "iid ask", "iid edit")
READ = {"describe": 1.15, "ask": 2.4}  # weights of tasks: images are read
DRAW = {"draw": 3.3, "edit": 0.8}  # images are drawn
TINY = ((2, 64, 4, 192), (4, 128, 4, 384), (6, 192, 4, 512))  # as transfusion.SIZES
POD = ("0.16B", "0.37B", "0.76B")


def get_config(preset: str) -> ConfigDict:
  """Transfusion: tiny with 16 patches an image, or 0.76B for a pod."""
  if preset not in ("tiny", "0.76B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 0.76B")
  c = transfusion.get_config(preset)
  if preset == "tiny":  # 4 patches, as they are there, have little to say to each other
    c.data.update(patch_size=8, seq_len=256)
    c.model.unet_width = 8
  return c


def sizes(preset: str) -> list[Point]:
  """Three sizes of a decoder, each with a head's width of its own."""
  tiny = preset == "tiny"
  shapes = TINY if tiny else [transfusion.SIZES[name] for name in POD]
  depth, width, heads, mlp = zip(*shapes, strict=True)
  knobs = {
    "depth": depth, "width": width, "heads": heads, "kv_heads": heads,
    "head_dim": [w // h for w, h in zip(width, heads, strict=True)], "mlp_width": mlp,
    "scan_unroll": [2 if tiny else 1] * len(depth),
  }  # fmt: skip
  return zipped(*(param(f"model.{name}", list(some)) for name, some in knobs.items()))


def split(c: ConfigDict) -> ConfigDict:
  """Scenes as two sources, `read` and `draw`, so that each has a weight of its own."""
  scenes = c.data.sources.scenes
  total = sum(READ.values()) + sum(DRAW.values())
  for name, tasks in (("read", READ), ("draw", DRAW)):
    own = copy.deepcopy(scenes.to_dict())
    own["options"] = {**own["options"], "tasks": tasks, "caption_first": None}
    own["weight"] = scenes.weight * sum(tasks.values()) / total
    c.data.sources[name] = own
  del c.data.sources.scenes
  return c
