"""LFQ autoencoder (Yu et al. 2024, arXiv 2310.05737).

  --config=configs/codecs/lfq.py:tiny      minutes on a laptop, 32 pixels
  --config=configs/codecs/lfq.py:8192      8192 codes

Axes: each channel is a bit, its sign; entropy loss 0.1, commitment 0.25; L1 and
perceptual loss; patch discriminator. `8192` has 13 bits, 16 pixels a code, and the
levels and blocks of the tokenizer of Show-o, 95,387,004 parameters.

Differences from the paper: pictures only, without its causal 3-D convolutions;
perceptual network and discriminator as in kl.py.
"""

from ml_collections import ConfigDict

from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 8192."""
  c = common.codec_config()
  c.codec.bottleneck = "lfq"
  return common.choose(preset, SIZES, c)


def tiny(c: ConfigDict) -> ConfigDict:
  """8 bits, 4 pixels each."""
  c = common.tiny(c)
  c.codec.update(channels=8, entropy_weight=0.02)
  return c


def large(c: ConfigDict) -> ConfigDict:
  """13 bits, 16 pixels each."""
  c.codec.update(channels=13, multipliers=(1, 2, 2, 4, 4), blocks=(4, 3, 4, 3, 4))
  c.codec.update(decoder_multipliers=(1, 1, 2, 2, 4), decoder_blocks=(4, 4, 3, 4, 3))
  return c


SIZES = {"tiny": tiny, "8192": large}
