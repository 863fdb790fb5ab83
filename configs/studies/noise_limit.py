"""How much noise may an image have that text is read from?

  unijax sweep run configs/studies/noise_limit.py:tiny --root=runs/noise --seeds=3

An image that is read may come as noised as one that is drawn (1), cleaner, or clean
(0). Published (Transfusion, table 8, CIDEr and FID with a limit of half the steps):
0.76B 25.4 to 29.4, 16.7 to 16.5; 7B 33.7 to 35.2, 16.0 to 15.7.

Held equal: everything but the limit, steps and FLOPs included.

An answer: differences of "iid describe" and "iid ask" from no limit that exclude 0,
beside one of "iid draw" that does not: noise on read images would cost reading, and
drawing would gain nothing by it.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

SCORES = common.SCORES
BASELINE = {"data.noise_limit": 1.0}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B, with the patches of the table."""
  c = common.get_config(preset)
  c.model.patch_codec = "unet"
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Largest timestep of images that are read."""
  return param("data.noise_limit", [0.0, 0.25, 0.5, 0.75, 1.0])
