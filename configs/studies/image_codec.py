"""Is a U-Net around the decoder worth its compute, and does that fade with size?

  unijax sweep run configs/studies/image_codec.py:tiny --root=runs/codec --flops=3e13

Linear or U-Net patches at three sizes of the decoder. Published (Transfusion, table 7,
FID, linear and U-Net): 0.16B 37.6, 18.8; 0.37B 21.5, 18.1; 0.76B 20.3, 16.7; 7B 18.6,
16.0: the smaller the decoder, the more it gains.

Held equal: data, their order, the decoder of a pair, and with --flops the training
FLOPs, which steps alone would not hold: a U-Net costs more a step.

An answer: the difference of "iid draw" from linear patches at each size, with its
interval; that it falls with size needs intervals that do not overlap.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param, product

SCORES = common.SCORES
BASELINE = {"model.patch_codec": "linear"}
CURVES = "model.patch_codec"


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  return common.get_config(preset)


def sweep(preset: str = "tiny") -> list[Point]:
  """Sizes x patch codecs."""
  return product(common.sizes(preset), param("model.patch_codec", ["linear", "unet"]))
