"""How often should the caption come before its image, and how often after?

  unijax sweep run configs/studies/caption_first.py:tiny --root=runs/first --seeds=3

Captions first teach drawing, images first describing. Published: 80 % first
(Transfusion, section 4.1), without a comparison.

Held equal: pictures and captions, the share of other tasks, steps and FLOPs. Drawing
costs image loss and describing text loss, so the two losses weigh differently in total.

An answer: how steeply "iid draw" rises and "iid describe" falls. A wide range in which
neither differs from the baseline would say that each task helps the other; "iid ask",
whose share is the same everywhere, tells what is left of reading.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

PATH = "data.sources.scenes.options.caption_first"
SCORES = common.SCORES
BASELINE = {PATH: 0.8}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  c = common.get_config(preset)
  c.data.sources.scenes.options.caption_first = BASELINE[PATH]
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Share of documents with the caption first, among those with an image and one."""
  return param(PATH, [0.05, 0.2, 0.5, 0.8, 0.95])
