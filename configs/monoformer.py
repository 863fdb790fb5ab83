"""MonoFormer (Zhao et al. 2024): one transformer for autoregression and diffusion.

  --config=configs/monoformer.py:tiny    trains on a laptop, embedded data
  --config=configs/monoformer.py:1.1B    TinyLlama's size, as published

Axes: diffusion in the backbone, epsilon on the linear DDPM schedule; linear patches of
2 x 2 latents with a learned position each; a time token before the image; bidirectional
images; shared parameters; 1-D RoPE; text weighs 0.01 of the image loss.

Differences from the paper: the variance is not learned; the linear head has no AdaLN of
its own; the first and time layers start at random, not at zero; pixels stand in for
latents (patches of 16 pixels, 256 of them in an image of 256 pixels, as there); trained
from scratch, not from TinyLlama; the MLLM stages that read images through a vision
encoder are left out.

`tiny` is the `tiny` of configs/transfusion.py with these axes; its text weighs more,
since it has no pretrained language model to keep, and it predicts clean latents: noise
of 768 numbers a patch cannot be told from hidden states of width 128.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

VOCAB, PUBLISHED = {"1.1B": 32_000}, {"1.1B": 1_100_048_384}  # TinyLlama alone
COUNTED = {"1.1B": ("transformer/*", "embedding/*", "text_head/*")}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 1.1B."""
  if preset not in ("tiny", "1.1B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 1.1B")
  c = transfusion.tiny(base.get_config()) if preset == "tiny" else published()
  c.model.update(time_injection="token", patch_position="learned")
  c.diffusion.path = "linear"
  return c


def published() -> ConfigDict:
  """TinyLlama-1.1B; grouped-query attention with 4 key heads."""
  c = base.get_config()
  c.model.update(depth=22, width=2048, heads=32, kv_heads=4, head_dim=64)
  c.model.update(mlp_width=5632, qk_norm=False, dtype="bfloat16", remat="full")
  c.data.update(image_size=256, patch_size=16, seq_len=2048, images_per_row=7)
  scenes = dict(image_size=256, chat=False, caption_first=0.8)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, weight_decay=0.0)
  c.train.update(steps=500_000, batch_size=256)
  c.train.update(text_loss_weight=0.01, image_loss_weight=1.0)
  c.diffusion.predict = "epsilon"
  c.sample.update(sampler="ddpm", steps=250, guidance=1.5, clip_x0=1.0)
  return c
