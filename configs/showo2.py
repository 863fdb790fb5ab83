"""Show-o2 (Xie et al. 2025): patches and an encoder's features fused, drawn by a flow.

  --config=configs/showo2.py:tiny      trains on a laptop, embedded data
  --config=configs/showo2.py:7B        the paper's sizes: 1.5B, 7B

Axes: fused read; rectified flow in the backbone; linear patches; a time token;
bidirectional images; shared parameters; 1-D RoPE; two stages: first the words rest.

Differences from the paper, at its sizes: the encoder reads pixels of context images
(the paper: layers of SigLIP on latents of all images, noised ones, too); drawn images
are fused with zeros; pixels (patches of 16) for latents of Wan2.1's autoencoder, hence
the same 729 patches; unshifted timesteps; scenes as data.
Size of 1.5B, Size of 7B: a linear head stands for ten blocks with AdaLN.
`tiny` is that of configs/transfusion.py, by whose recipe it trains, in one stage.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"1.5B": 2_831_187_168, "7B": 8_934_950_112}
SIZES = {  # depth, width, heads, key/value heads, hidden width, vocabulary
  "1.5B": (28, 1536, 12, 2, 8960, 151_936),
  "7B": (28, 3584, 28, 4, 18944, 152_064),
}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, or a size of the paper."""
  if preset != "tiny" and preset not in SIZES:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(SIZES)}")
  c = base.get_config()
  c = transfusion.tiny(c) if preset == "tiny" else paper(c, *SIZES[preset])
  c.model.update(read="fused", time_injection="token")
  c.vision.patch_size = c.data.patch_size = 16
  c.diffusion.update(path="rectified_flow")
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  return c


def paper(c: ConfigDict, depth, width, heads, kv_heads, hidden, vocab) -> ConfigDict:
  """Section 3 of the paper."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=kv_heads, head_dim=128)
  c.model.update(mlp_width=hidden, norm_eps=1e-6, rope_theta=1e6, qk_norm=False)
  c.model.update(bias="qkv", tie_embeddings=width < 2048)
  c.vision.update(depth=26, width=1152, heads=16, mlp_width=4304, mlp="gelu_tanh")
  for part in (c.model, c.vision):
    part.update(dtype="bfloat16", remat="full")
  c.diffusion.update(predict="velocity", time_law="logit_normal")
  c.data.update(image_size=432, seq_len=4096, images_per_row=4, vocab=vocab)
  scenes = dict(image_size=432, chat=False, caption_first=0.8)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, schedule="constant", weight_decay=0.0)
  c.train.update(batch_size=512, steps=0, image_loss_weight=1.0)
  c.train.stages = ("drawing", "all")
  first = {"optim": {"freeze": ("transformer/*", "embedding/*", "vision/*")}}
  c.stages.drawing = {"steps": 150_000, "train": {"text_loss_weight": 0.2}, **first}
  c.stages.all = {"steps": 35_000, "optim": {"learning_rate": 1e-5}}
  c.sample.update(sampler="euler", steps=50, schedule_shift=3.0, guidance=5.0)
  return c
