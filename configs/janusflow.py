"""JanusFlow (Ma et al. 2024): SigLIP's features are read, images drawn by a flow.

  --config=configs/janusflow.py:tiny   trains on a laptop, embedded data
  --config=configs/janusflow.py:1.3B   the paper's size, 576 features and patches

Axes: features read, behind a vector of their own; linear connector; rectified flow in
the backbone; convolutional patch codecs with a long skip; the timestep in the place of
BOI; causal images; for guidance, text is hidden and its places stay; 1-D RoPE.

Differences from the paper, at its size: pixels (patches of 16) stand for latents of
SDXL's autoencoder (2 x 2 of stride 8), hence the same 576 patches; no alignment of
hidden states with SigLIP's features; one stage, the second (14 : 80 : 6 of reading,
drawing, text), with a learned encoder: the paper's two stages around it train adaptors,
then everything. configs/released/janusflow.py reads released weights.

`tiny` is that of configs/transfusion.py, by whose recipe it trains, with its U-Net in
the place of the two ConvNeXt stacks.
"""

from ml_collections import ConfigDict

from configs import base, transfusion


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 1.3B."""
  if preset not in ("tiny", "1.3B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 1.3B")
  c = base.get_config()
  if preset == "tiny":
    c = transfusion.tiny(c)
    c.model.update(patch_codec="unet", unet_width=8)
    c.data.seq_len = 160
  else:
    c = paper(c)
  c.model.update(read="features", connector="linear", feature_begin=True)
  c.model.update(image_mask="causal", time_injection="boi")
  c.diffusion.update(path="rectified_flow")
  c.data.update(noise_limit=0.0, caption_dropout=0.1, without_text="hidden")
  c.sample.update(guidance=2.0)
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Section 3 of the paper."""
  c.model.update(depth=24, width=2048, heads=16, kv_heads=16, head_dim=128)
  c.model.update(mlp_width=5632, norm_eps=1e-6, qk_norm=False, patch_codec="convnext")
  c.model.update(unet_width=768, unet_blocks=2, dtype="bfloat16", remat="full")
  c.vision.update(depth=24, width=1024, heads=16, mlp_width=4096, patch_size=16)
  c.vision.update(dtype="bfloat16", remat="full")
  c.diffusion.update(predict="velocity", time_law="logit_normal")
  c.data.update(image_size=384, patch_size=16, seq_len=4096, images_per_row=6)
  c.data.vocab = 102_400
  tasks = dict(describe=7.0, ask=7.0, draw=80.0)
  scenes = dict(image_size=384, tasks=tasks)
  c.data.sources = transfusion.pairs(scenes=94.0, corpus=6.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, schedule="constant", weight_decay=0.0)
  c.train.update(batch_size=512, steps=390_000, image_loss_weight=1.0, ema_decay=0.99)
  c.sample.update(sampler="euler", steps=30)
  return c
