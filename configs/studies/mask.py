"""Must the patches of an image see each other both ways?

  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --flops=3e13 --seeds=3
  unijax sweep run configs/studies/mask.py:0.76B --root=runs/mask --flops=5e21

Two by two: causal or bidirectional inside images, linear or U-Net patches. Published
(Transfusion, table 5, 0.76B, FID): linear 61.3 causal, 20.3 bidirectional; U-Net 16.8
and 16.7, whose convolutions mix patches whatever the mask.

Held equal: data and their order, noise, all parameters but those of the patch codec,
and with --flops the training FLOPs (a U-Net then has fewer steps).

An answer: in linear rows the difference of "iid draw" from the causal mask has an
interval above 0, and in U-Net rows a smaller one. What follows images is scored too: a
mask that draws well and reads worse would be no clear gain.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param, product

SCORES = common.SCORES
BASELINE = {"model.image_mask": "causal"}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  return common.get_config(preset)


def sweep(preset: str = "tiny") -> list[Point]:
  """Masks x patch codecs."""
  return product(
    param("model.patch_codec", ["linear", "unet"]),
    param("model.image_mask", ["causal", "bidirectional"]),
  )
