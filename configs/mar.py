"""MAR (Li et al. 2024): masked patches, each drawn by a small diffusion head.

  --config=configs/mar.py:tiny         trains on a laptop; describes and answers, too
  --config=configs/mar.py:B            the paper's sizes: B, L, H
Axes: continuous patches read clean or hidden; random order, several a step by the
cosine schedule; diffusion in a head; bidirectional images; 1-D RoPE and learned places.

Differences from the paper, at its sizes: a caption (no loss) for 64 buffer tokens of a
class; one decoder of the same depth reads known and hidden patches, not an encoder of
the known, then a decoder; SwiGLU, RMS norm; no dropout; no learned variance; constant
guidance; loss over all patches; pixels (256 patches of 4) for KL-16's 16 channels.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"B": 208e6, "L": 479e6, "H": 943e6}  # rounded in the paper
SIZES = {  # depth, width, heads, hidden; of the head: depth, width
  "B": (24, 768, 12, 2048, 6, 1024),
  "L": (32, 1024, 16, 2736, 8, 1280),
  "H": (40, 1280, 16, 3416, 12, 1536),
}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, or a size of the paper."""
  if preset != "tiny" and preset not in SIZES:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(SIZES)}")
  c = base.get_config()
  c = tiny(c) if preset == "tiny" else paper(c, *SIZES[preset])
  c.model.update(write="masked_diffusion", patch_position="learned")
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  return c


def paper(c: ConfigDict, depth, width, heads, hidden, head_depth, head) -> ConfigDict:
  """Sections 4 and 5 of the paper."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=heads)
  c.model.update(head_dim=width // heads, mlp_width=hidden, qk_norm=False)
  c.model.update(head_depth=head_depth, head_width=head, dtype="bfloat16", remat="full")
  c.diffusion.update(path="cosine", predict="epsilon", time_max=0.999)
  c.data.update(image_size=64, patch_size=4, seq_len=1024, images_per_row=4)
  scenes = dict(image_size=64, chat=False, caption_first=1.0)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=0.0, scene_options=scenes)
  c.data.sources.scenes.text_loss = 0.0
  c.optim.update(learning_rate=8e-4, warmup_steps=62_500, weight_decay=0.02)
  c.optim.update(schedule="constant", clip_norm=3.0)
  c.train.update(batch_size=2048, image_loss_weight=1.0, ema_decay=0.9999, steps=250000)
  c.sample.update(sampler="ddpm", steps=256, token_steps=100, guidance=3.0, clip_x0=0.0)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """A small model on the embedded data, 16 patches an image."""
  c = transfusion.tiny(c)
  c.data.update(patch_size=8, seq_len=256, images_per_row=8)
  c.diffusion.update(time_shift=2.0)
  c.sample.update(steps=8, token_steps=24, schedule_shift=2.0)
  return c
