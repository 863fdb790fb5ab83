"""How much should the loss of images weigh beside that of text?

  unijax sweep run configs/studies/loss_weight.py:tiny --root=runs/weight --seeds=3

Published: 5 with squared errors of noise on latents (Transfusion, section 4.1, from
preliminary experiments that are not shown). The right weight goes with the units of the
error, hence with the codec and the target of prediction.

Held equal: everything but the weight, steps and FLOPs included.

An answer: "iid draw" and "iid describe" together. If one weight is best for both, the
two losses do not compete at this size; if one rises as the other falls, they share a
capacity, and the weight chooses how.
"""

from ml_collections import ConfigDict

from configs.studies import common
from unijax.sweep.points import Point, param

SCORES = (*common.SCORES, "bits per byte")
BASELINE = {"train.image_loss_weight": 5.0}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config that is varied: tiny or 0.76B."""
  return common.get_config(preset)


def sweep(preset: str = "tiny") -> list[Point]:
  """Factors of the loss of images."""
  return param("train.image_loss_weight", [0.5, 1.0, 5.0, 15.0, 50.0])
