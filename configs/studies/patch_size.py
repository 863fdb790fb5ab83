"""How large may a patch be?

  unijax sweep run configs/studies/patch_size.py:tiny --root=runs/patch --flops=3e13

Larger patches make shorter images: more of them are seen for the same FLOPs, and less
compute goes into each. Published (Transfusion, table 6, 0.76B, linear, FID and CIDEr):
1 x 1 latents 21.0, 12.0; 2 x 2 20.3, 16.0; 4 x 4 25.6, 14.3; 8 x 8 43.5, 11.3.

Held equal: positions of a batch, the decoder, with --flops the training FLOPs, the data
and their order (how many documents fit into a row differs, hence where a batch ends).

An answer: a size on the Pareto front of "iid draw" whose difference from its neighbours
excludes 0; that reading ("iid ask") prefers another one would be an answer too.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

SCORES = common.SCORES
BASELINE = {"data.patch_size": 16}
PIXELS = {"tiny": [4, 8, 16], "0.76B": [8, 16, 32, 64]}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  c = common.get_config(preset)
  if preset == "tiny":
    c.data.update(seq_len=384, images_per_row=30)  # 64 patches of 4 pixels must fit
  return c


def sweep(preset: str = "tiny") -> list[Point]:
  """Pixels a side of a patch."""
  return param("data.patch_size", PIXELS[preset])
