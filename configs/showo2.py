"""Show-o2 (Xie et al. 2025): latents read on two paths, drawn by blocks of their own.

  --config=configs/showo2.py:tiny      trains on a laptop, embedded data
  --config=configs/showo2.py:7B        the paper's sizes: 1.5B, 7B

Axes: fused read; rectified flow; linear patches; a time token; bidirectional images;
shared parameters; 1-D RoPE; two stages: first the words rest. At the paper's sizes the
encoder (layers of SigLIP) reads latents of all images, noised ones, too, and ten blocks
behind the decoder, with a width of their own, say the velocity.

Differences from the paper, at its sizes: pixels (patches of 16) stand for latents of
Wan2.1's autoencoder, hence the same 729 patches, unless data.codec names its run
(then data.patch_size is 2, sample.clip_x0 0); scenes as data. Released weights are
read by configs/released/showo2.py.
`tiny` is that of configs/transfusion.py, by whose recipe it trains, in one stage and
without blocks of their own; its encoder reads pixels of context images, and drawn ones
are fused with zeros.
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
  c.model.read = "fused"
  c = transfusion.tiny(c) if preset == "tiny" else paper(c, *SIZES[preset])
  c.model.time_injection = "token"
  c.vision.patch_size = c.data.patch_size = 16
  c.diffusion.update(path="rectified_flow")
  c.data.update(noise_limit=0.0, caption_dropout=0.1)
  return c


def paper(c: ConfigDict, depth, width, heads, kv_heads, hidden, vocab) -> ConfigDict:
  """Section 3 of the paper."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=kv_heads, head_dim=128)
  c.model.update(mlp_width=hidden, norm_eps=1e-6, rope_theta=1e6, qk_norm=False)
  c.model.update(bias="qkv", tie_embeddings=width < 2048, read="fused_latents")
  c.model.update(patch_out="run", time_token="alone", time_of="data")
  c.model.update(time_waves="sinusoid", time_features=256)
  c.denoiser.update(depth=10, width=2048, heads=32, kv_heads=8, head_dim=64)
  c.denoiser.update(mlp_width=8192, last_eps=1e-6, rope_theta=5e5, rope_factor=32.0)
  c.vision.update(depth=26, width=1152, heads=16, mlp_width=4304, mlp="gelu_tanh")
  c.vision.update(last_norm=False, features_norm=False)
  for part in (c.model, c.vision):
    part.update(dtype="bfloat16", remat="full")
  c.diffusion.update(predict="velocity", time_law="logit_normal", time_shift=1.79)
  c.data.update(image_size=432, seq_len=4096, images_per_row=4, vocab=vocab)
  scenes = dict(image_size=432, chat=False, caption_first=0.8)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, schedule="constant", weight_decay=0.0)
  c.train.update(batch_size=512, steps=0, image_loss_weight=1.0)
  c.train.stages = ("drawing", "all")
  first = {"optim": {"freeze": ("transformer/*", "embedding/*", "vision/*")}}
  c.stages.drawing = {"steps": 150_000, "train": {"text_loss_weight": 0.2}, **first}
  c.stages.all = {"steps": 35_000, "optim": {"learning_rate": 1e-5}}
  c.sample.update(sampler="euler", steps=49, schedule_shift=3.0, guidance=5.0)
  return c
