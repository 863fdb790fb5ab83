"""Features of a frozen encoder as latents, and a DiT that draws from them.

  --config=configs/codecs/features.py:tiny --config.codec.encoder=RUN   RUN is a run of
      configs/clip.py:tiny; without it the encoder keeps its first weights
  --config=configs/codecs/features.py:448     64 features of 1,792 numbers (Emu2)
  --config=configs/codecs/features.py:378     81 features of 1,152 numbers (MetaMorph)

Stage 1 of Emu2 (Sun et al. 2024) and MetaMorph (Tong et al. 2024): a frozen EVA-CLIP or
SigLIP, patches averaged in squares, a decoder trained by diffusion to draw from them.

Differences from the papers: a DiT of 2.2 billion parameters on patches of pixels stands
for the U-Nets of SDXL and Stable Diffusion 1.5 on VAE latents, and is trained from
nothing; attention to the features only, no text; 27 patches a side are averaged by 3
where MetaMorph resizes them to 8x8. Drawing begins from one and the same noise.
"""

from ml_collections import ConfigDict

from configs import eva_clip, siglip
from configs.codecs import common


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 448, 378."""
  c = common.choose(preset, SIZES, common.codec_config())
  c.train.task, c.optim.freeze = "decoder", ("codec/encoder/*",)
  c.dit.update(conditioning="cross", positions="sincos", pooled=True)
  c.data.caption_dropout = 0.1
  c.optim.update(b1=0.9, b2=0.99)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """The encoder of configs/clip.py:tiny: 16 features of 96 numbers."""
  c = common.tiny(c)
  c.vision.update(depth=3, width=96, heads=4, mlp_width=256, pool="class")
  c.vision.update(patch_bias=False, embed_norm=True, norm_eps=1e-5)
  c.data.patch_size = 4  # of the decoder
  c.diffusion.update(predict="x0", time_shift=2.0)
  c.sample.update(sampler="ddim", steps=20, schedule_shift=2.0)
  return c


def published(c: ConfigDict, align: ConfigDict, size: int, pooling: int) -> ConfigDict:
  """A published encoder; patches of 14 pixels on both sides."""
  c.vision = align.vision
  c.data.update(image_size=size, patch_size=14)
  c.data.sources.scenes.options.image_size = size
  c.codec.pooling = pooling
  c.model.update(dtype="bfloat16", remat="full")
  c.dit.update(depth=32, width=2048, heads=32, mlp_width=8192, adaln="shared")
  c.sample.update(sampler="euler", steps=50, guidance=3.0)
  return c


SIZES = {
  "tiny": tiny,
  "448": lambda c: published(c, eva_clip.get_config("bigE-14-plus"), 448, 4),
  "378": lambda c: published(c, siglip.get_config("so400m-14-384"), 378, 3),
}
