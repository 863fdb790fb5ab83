"""Residual VQ autoencoder (Zeghidour et al. 2021; Lee et al. 2022, arXiv 2203.01941).

  --config=configs/codecs/rvq.py:tiny      minutes on a laptop, 32 pixels
  --config=configs/codecs/rvq.py:2048      four codebooks of 2048

Axes: several codebooks, each for what the ones before left over; running averages, dead
codes revived; L1 and perceptual loss; patch discriminator. The codes of a place are one
number where codebook ^ quantizers is at most 2^20; else the run has latents only.

Differences from the papers: every level has a codebook of its own (Lee et al. share
one); perceptual network and discriminator as in kl.py.
"""

from ml_collections import ConfigDict

from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 2048."""
  c = common.codec_config()
  c.codec.bottleneck = "rvq"
  return common.choose(preset, SIZES, c)


def tiny(c: ConfigDict) -> ConfigDict:
  """Two codebooks of 16, 4 pixels a place: 256 codes."""
  c = common.tiny(c)
  c.codec.update(channels=8, codebook=16, quantizers=2)
  return c


def large(c: ConfigDict) -> ConfigDict:
  """Four codebooks of 2048, 32 pixels a place: latents of 256 numbers."""
  c.codec.update(
    channels=256, codebook=2048, quantizers=4, multipliers=(1, 1, 2, 2, 4, 4)
  )
  return c


SIZES = {"tiny": tiny, "2048": large}
