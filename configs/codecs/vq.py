"""VQ autoencoder (van den Oord et al. 2017; Esser et al. 2021, arXiv 2012.09841).

  --config=configs/codecs/vq.py:tiny      minutes on a laptop, 32 pixels
  --config=configs/codecs/vq.py:8192      8192 codes

Axes: one codebook, nearest entry, entries as running averages or by gradient
(codec.codebook_update), dead codes revived by splitting busy ones, commitment 0.25; L1
and perceptual loss; patch discriminator. `8192` has the sizes that Chameleon names:
8192 codes of 256 numbers, width 128 x (1, 1, 2, 2, 4), 16 pixels a code.

Differences from the papers: perceptual network and discriminator as in kl.py; attention
in the middle only; entries are averages where Esser et al. train them by gradient, and
rare codes are revived (neither does).
"""

from ml_collections import ConfigDict

from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 8192."""
  c = common.codec_config()
  c.codec.bottleneck = "vq"
  return common.choose(preset, SIZES, c)


def tiny(c: ConfigDict) -> ConfigDict:
  """256 codes of 8 numbers, 4 pixels each."""
  c = common.tiny(c)
  c.codec.update(channels=8, codebook=256)
  return c


def large(c: ConfigDict) -> ConfigDict:
  """8192 codes, 16 pixels each."""
  c.codec.update(channels=256, codebook=8192, multipliers=(1, 1, 2, 2, 4))
  c.data.image_size = 512
  c.data.sources.scenes.options.image_size = 512
  return c


SIZES = {"tiny": tiny, "8192": large}
