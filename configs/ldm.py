"""Latent diffusion with attention to the caption (Rombach et al. 2022), as a DiT.

  --config=configs/ldm.py:tiny      trains in minutes, draws scenes and emoji
  --config=configs/ldm.py:0.6B      the sizes of PixArt-alpha (Chen et al. 2023)

Axes: pictures only; patches of latents; a transformer denoises them, every block of it
attends to the words; AdaLN carries the time, one projection for all blocks; fixed 2-D
positions; guidance by captions left out.

Differences: the paper's denoiser is a U-Net, PixArt-alpha its transformer form, whose
sizes `0.6B` has. The text encoder is trained along and sized like T5-XXL's, which both
keep frozen. Patches of 16 pixels stand for 2x2 VAE latents of stride 8 until a codec is
named. No learned variance; the caption enters by one linear map, not two. `tiny`
predicts clean pixels, as few, large patches want. Size of 0.6B: 614 million, rounded.
"""

from ml_collections import ConfigDict

from configs import base

PUBLISHED, COUNTED = {"0.6B": 0.6e9}, {"0.6B": ("dit/*",)}  # without the text encoder
DRAW = dict(tasks=dict(draw=1.0), chat=False)  # captioned pictures and nothing else


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 0.6B."""
  if preset not in ("tiny", "0.6B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 0.6B")
  c = (tiny if preset == "tiny" else paper)(base.get_config())
  c.train.task = "drawing"
  c.dit.update(conditioning="cross", adaln="shared", pooled=False, positions="sincos")
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Section 3 of PixArt-alpha; the encoder has the sizes of T5-XXL's."""
  c.model.update(depth=24, width=4096, heads=64, kv_heads=64, head_dim=64)
  c.model.update(mlp_width=10240, dtype="bfloat16", remat="full")
  c.dit.update(depth=28, width=1152, heads=16, mlp_width=4608, qk_norm=False)
  c.diffusion.update(path="linear", predict="epsilon")
  c.data.update(image_size=512, patch_size=16, caption_length=120)
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": DRAW}
  c.optim.update(learning_rate=2e-5, warmup_steps=1000, weight_decay=0.03)
  c.train.update(steps=300_000, batch_size=1024)
  c.sample.update(sampler="ddim", steps=50, guidance=4.5)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """Two million parameters: scenes of one or two things, and a few emoji."""
  c.diffusion.update(predict="x0", time_shift=8.0)
  c.data.update(tokenizer="configs/tokenizers/embedded.json", caption_length=24)
  scenes = dict(max_objects=2, grid=2, num_documents=10_000_000, **DRAW)
  c.data.sources.scenes = dict(kind="scenes", weight=0.94, options=scenes)
  c.data.sources.emoji = dict(kind="emoji", weight=0.06, options=dict(limit=48, **DRAW))
  c.optim.update(name="muon", learning_rate=1e-2, adam_learning_rate=3e-3)
  c.train.update(steps=1000, batch_size=64, eval_every=500, sample_every=500)
  c.sample.update(sampler="ddpm", steps=32, schedule_shift=8.0, guidance=1.5)
  c.model.depth, c.optim.weight_decay = 2, 0.0
  return c
