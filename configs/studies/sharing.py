"""What may text and images share?

  unijax sweep run configs/studies/sharing.py:tiny --root=runs/sharing --flops=3e13

Everything; all but a feed-forward net each; nothing but attention; or experts that a
router chooses. Published: copies of everything reach the images of a shared decoder
with about a third of its FLOPs (Mixture-of-Transformers, its Transfusion setting, 7B);
with text frozen, copies of all beat copies of the feed-forward nets (LMFusion).

Held equal: FLOPs of a position (two experts together are as wide as the dense net) and
of training, data and their order. Not equal: parameters, which copies and experts have
more of; the table says how many.

An answer: "iid draw" and "iid describe" against sharing all. Copies that win in both at
equal FLOPs show that the two modalities get into each other's way; experts that win as
much show that more parameters are enough.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

SCORES = common.SCORES
BASELINE = {"model.sharing": "shared"}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  c = common.get_config(preset)
  width = c.model.mlp_width // 2
  c.model.update(experts=8, experts_per_token=2, shared_experts=0, expert_width=width)
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """What has a copy for text and one for images."""
  return param("model.sharing", ["shared", "ffn", "full", "experts"])
