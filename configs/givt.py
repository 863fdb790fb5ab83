"""GIVT (Tschannen et al. 2024): continuous patches in order from mixtures of Gaussians.

  --config=configs/givt.py:tiny        trains on a laptop; describes and answers, too
  --config=configs/givt.py:default     the causal models: base, default (304M), large

Axes: continuous patches read clean, each from a mixture of 16 Gaussians with diagonal
covariances; causal everywhere; 1-D RoPE and learned places.

Differences from the paper, at its sizes: a caption (no loss) for a class label; SwiGLU
and RMS norm; no dropout; the loss is in nats a channel; scales from a bounded
exponential, not a softplus; guidance chooses by weight among 16 draws, the paper
rejects; no beam search, flow adapter or masked variant; pixels in patches of 4.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"default": 304e6, "large": 1.67e9}  # rounded in the paper
SIZES = {  # depth, width, heads, SwiGLU hidden width: 2/3 of the paper's MLP
  "base": (12, 768, 12, 2048),
  "default": (24, 1024, 16, 2736),
  "large": (48, 1536, 16, 5464),
}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, or a size of the paper."""
  if preset != "tiny" and preset not in SIZES:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(SIZES)}")
  c = base.get_config()
  c = tiny(c) if preset == "tiny" else paper(c, *SIZES[preset])
  c.model.update(write="gmm", image_mask="causal", patch_position="learned")
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  c.train.image_loss_weight = 1.0
  return c


def paper(c: ConfigDict, depth, width, heads, hidden) -> ConfigDict:
  """Section 4 of the paper, images of 256 pixels."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=heads)
  c.model.update(head_dim=width // heads, mlp_width=hidden, qk_norm=False)
  c.model.update(dtype="bfloat16", remat="full")
  c.data.update(image_size=64, patch_size=4, seq_len=1024, images_per_row=4)
  scenes = dict(image_size=64, chat=False, caption_first=1.0)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=0.0, scene_options=scenes)
  c.data.sources.scenes.text_loss = 0.0
  c.optim.update(learning_rate=1e-3, warmup_steps=7800, weight_decay=1e-4)
  c.train.update(batch_size=8192, steps=78_000)
  c.sample.update(image_temperature=0.95, guidance=1.4)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """A small model on the embedded data, 16 patches an image, each a mixture of 4."""
  c = transfusion.tiny(c)
  c.model.mixtures, c.data.patch_size = 4, 8
  c.data.update(seq_len=256, images_per_row=8)
  c.sample.image_temperature = 0.9
  return c
