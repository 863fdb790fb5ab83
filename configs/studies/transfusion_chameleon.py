"""Patches by diffusion or codes by next token: which is worth its compute?

  unijax sweep run configs/studies/transfusion_chameleon.py:tiny --root=runs/two
  unijax sweep run configs/studies/transfusion_chameleon.py:7B --root=runs/two

Two designs at three sizes of the decoder and three budgets. Each point starts from the
design's own file at this preset, so each has its codec, its mask, its losses, its batch
and its rates; the size is replaced, and the steps are what the budget buys. Published
(Transfusion, table 3, 7B): the FLOPs for equal results are .03 (FID), .22 (CIDEr) and
.49 (perplexity) of Chameleon's.

Held equal: training FLOPs, the shape of the decoder, sources of data. Not equal, by
design: positions of an image (codes are more), hence images seen.

An answer: curves of score against FLOPs, the best size at each budget: how far apart
they lie along the axis of FLOPs is the ratio that the paper prints. The rows give the
difference at each size and budget.
"""

from ml_collections import ConfigDict

from configs import transfusion
from configs.studies import common
from unijax.sweep.points import Point, param, product

SCORES = (*common.SCORES, "bits per byte")
BASELINE = {"config": "configs/chameleon.py"}
CURVES = "config"
FLOPS = {"tiny": [2e12, 4.5e12, 1e13], "7B": [1e20, 3e20, 1e21]}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the first design: tiny, or 7B, whose recipe all sizes take."""
  if preset not in FLOPS:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(FLOPS)}")
  return transfusion.get_config(preset)


def sweep(preset: str = "tiny") -> list[Point]:
  """Designs x sizes x budgets."""
  return product(
    param("config", ["configs/chameleon.py", "configs/transfusion.py"]),
    common.sizes(preset),
    param("flops", FLOPS[preset]),
  )
