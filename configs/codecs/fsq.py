"""FSQ autoencoder (Mentzer et al. 2024, arXiv 2309.15505).

  --config=configs/codecs/fsq.py:tiny      minutes on a laptop, 32 pixels
  --config=configs/codecs/fsq.py:1024      1000 codes
  --config=configs/codecs/fsq.py:4096      4375 codes

Axes: each channel rounded to a few levels, no codebook, no commitment; the levels are
the paper's recommendations (table 1) for 2^10 and 2^12 codes; L1 and perceptual loss;
patch discriminator. Differences from the paper: those of kl.py in what surrounds it.
"""

from ml_collections import ConfigDict

from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 1024, 4096."""
  c = common.codec_config()
  c.codec.bottleneck = "fsq"
  return common.choose(preset, SIZES, c)


def tiny(c: ConfigDict) -> ConfigDict:
  """240 codes, 4 pixels each: the levels recommended for 2^8."""
  c = common.tiny(c)
  c.codec.update(channels=3, levels=(8, 6, 5))
  return c


def published(*levels: int):
  """Recommended levels, 8 pixels a code."""

  def change(c: ConfigDict) -> ConfigDict:
    c.codec.update(channels=len(levels), levels=levels)
    return c

  return change


SIZES = {
  "tiny": tiny,
  "1024": published(8, 5, 5, 5),
  "4096": published(7, 5, 5, 5, 5),
}
