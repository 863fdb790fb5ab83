"""KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

  --config=configs/codecs/kl.py:tiny      minutes on a laptop, 32 pixels
  --config=configs/codecs/kl.py:4         83.7 million parameters, 4 channels
  --config=configs/codecs/kl.py:8         8 channels
  --config=configs/codecs/kl.py:16        16 channels

Axes: continuous latents of 4, 8 or 16 channels, 8 pixels each; width 128 x (1, 2, 4,
4), two residual blocks a level, attention in the middle; KL weight 1e-6; L1 and
perceptual loss; patch discriminator with adaptive weight from step 50,000.

Differences from the paper: the perceptual network is EfficientNet-Lite0 with all
channel weights 1 (LPIPS's VGG is in no package); the discriminator has group norm
instead of batch norm; no learned logarithm of the variance of the error; one optimizer
trains both sides. `16` is the architecture of the 16-channel family; 1x1 convolutions
around the latents, which that family leaves out, stay (1,328 parameters).
"""

from ml_collections import ConfigDict

from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 4, 8, 16."""
  c = common.codec_config()
  c.codec.bottleneck = "kl"
  return common.choose(preset, SIZES, c)


def tiny(c: ConfigDict) -> ConfigDict:
  """4 channels, 4 pixels a latent."""
  c = common.tiny(c)
  c.codec.channels = 4
  return c


def published(channels: int):
  """The published architecture with this many channels."""

  def change(c: ConfigDict) -> ConfigDict:
    c.codec.channels = channels
    return c

  return change


PUBLISHED = {"4": 83_653_863, "16": 83_819_683}
COUNTED = dict.fromkeys(PUBLISHED, ("codec/*",))
SIZES = {"tiny": tiny, "4": published(4), "8": published(8), "16": published(16)}
