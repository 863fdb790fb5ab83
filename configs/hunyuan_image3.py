"""HunyuanImage 3.0 (Cao et al. 2025, arXiv 2509.23951): diffusion by routed experts.

  --config=configs/hunyuan_image3.py:tiny   trains on a laptop, embedded data
  --config=configs/hunyuan_image3.py:80B    the published size, 13B of them active

Axes: diffusion in the backbone, velocity on rectified flow; U-Net patches; a time token
before the image; bidirectional images; 64 routed experts and one that is shared, eight
at a time; 2-D RoPE; context images are clean.

Differences from the paper, at its size: pixels stand for latents of 32 channels (one
patch of 16 pixels each, hence the same 4,096 patches of 1,024 pixels) until a codec is
named; context images are not read by a vision encoder besides; the grid of 2-D RoPE
begins at the image's first corner, theirs is centred; the shape of an image is given,
not written; the U-Net's blocks do not see the time; balance by a loss of ours; the
reasoning and preference stages are left out. Size of 80B: the decoder of the released
shapes has 81 billion, which the paper rounds.
`tiny` is the `tiny` of configs/transfusion.py with these axes and as many units active;
its patches stay linear: a U-Net on so few pixels compiles for minutes.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"80B": 80e9}  # rounded in the paper
COUNTED = {"80B": ("transformer/*", "embedding/*", "text_head/*")}  # without the U-Net


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 80B."""
  if preset not in ("tiny", "80B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 80B")
  c = base.get_config()
  c = transfusion.tiny(c) if preset == "tiny" else paper(c)
  c.model.update(sharing="experts", shared_experts=1)
  c.model.update(time_injection="token", positions="grid", qk_norm=True)
  if preset == "tiny":
    c.model.update(experts=8, experts_per_token=2, expert_width=128)
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """The released shapes; the recipe's sizes are guesses."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=8, head_dim=128)
  c.model.update(experts=64, experts_per_token=8, expert_width=3072, mlp_width=3072)
  c.model.update(patch_codec="unet", unet_width=64, unet_blocks=1, norm_eps=1e-5)
  c.model.update(dtype="bfloat16", remat="full")
  c.diffusion.update(path="rectified_flow", predict="velocity", time_shift=3.0)
  c.data.update(image_size=1024, patch_size=16, seq_len=8192, images_per_row=1)
  c.data.update(vocab=133_120, noise_limit=0.0)
  scenes = dict(image_size=1024, chat=False, caption_first=0.8)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, warmup_steps=2000, weight_decay=0.1)
  c.train.update(batch_size=1024, steps=500_000)
  c.sample.update(sampler="euler", steps=50, schedule_shift=3.0, guidance=5.0)
  return c
