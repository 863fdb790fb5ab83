"""Transfusion (Zhou et al. 2024): next-token text, diffusion on patches, one decoder.

  --config=configs/transfusion.py:tiny          trains on a laptop, embedded data
  --config=configs/transfusion.py:tiny-long     the same for an hour
  --config=configs/transfusion.py:7B            the paper's sizes: 0.16B ... 7B
  --config=configs/transfusion.py:7B-unet       with U-Net patch codecs

Axes: diffusion in the backbone; linear or U-Net patches; bidirectional images; shared
parameters; 1-D RoPE; text after an image reads it with noise up to `noise_limit`.

Differences from the paper, at its sizes: pixels stand in for VAE latents (patches of
16 pixels instead of 2x2 latents of stride 8, hence the same 256 patches of a 256-pixel
image) until a codec is named; the time embedding is added after the linear layer,
which is the same map with a free projection; hidden widths follow Llama's rule, which
the paper does not state but its parameter counts imply.

`tiny` keeps the architecture and changes the recipe to what pixels in few, large
patches need (BUILD_NOTES.md has the search).
"""

from ml_collections import ConfigDict

from configs import base

SIZES = {  # depth, width, heads, SwiGLU hidden width
  "0.16B": (16, 768, 12, 2048),
  "0.37B": (24, 1024, 16, 2816),
  "0.76B": (24, 1536, 24, 4096),
  "1.4B": (24, 2048, 16, 5632),
  "7B": (32, 4096, 32, 11008),
}
# Of the decoder with 32,000 tokens; the paper rounds, and gives the shapes.
VOCAB = dict.fromkeys(SIZES, 32_000)
COUNTED = dict.fromkeys(SIZES, ("transformer/*", "embedding/*", "text_head/*"))
PUBLISHED = {
  "0.16B": 0.162e9, "0.37B": 0.374e9, "0.76B": 0.778e9, "1.4B": 1.364e9, "7B": 6.738e9,
}  # fmt: skip


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, tiny-long, a size of the paper, size-unet."""
  c = base.get_config()
  if preset in TINY:
    return TINY[preset](c)
  size, _, codec = preset.partition("-")
  if size not in SIZES or codec not in ("", "unet"):
    names = [*TINY, *SIZES, *(f"{s}-unet" for s in SIZES)]
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(names)}")
  return paper(c, size, codec or "linear")


def paper(c: ConfigDict, size: str, codec: str) -> ConfigDict:
  """Sections 3 and 4 of the paper."""
  m = c.model
  m.depth, m.width, m.heads, m.mlp_width = SIZES[size]
  m.update(kv_heads=m.heads, head_dim=m.width // m.heads, qk_norm=False)
  m.update(patch_codec=codec, unet_width=128, unet_blocks=2)
  m.update(dtype="bfloat16", remat="full")
  c.diffusion.update(path="cosine", predict="epsilon", time_max=0.999)
  c.data.update(image_size=256, patch_size=16, seq_len=4096, images_per_row=15)
  scenes = dict(image_size=256, chat=False, caption_first=0.8)
  c.data.sources = pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=3e-4, warmup_steps=4000, weight_decay=0.1)
  c.optim.final_fraction = 0.05
  c.train.update(steps=250_000, batch_size=512, image_loss_weight=5.0)
  c.sample.update(sampler="ddpm", steps=250, guidance=5.0, clip_x0=1.0)
  return c


def pairs(scenes: float, corpus: float, scene_options: dict) -> ConfigDict:
  """Captioned pictures and text, by share of documents."""
  return ConfigDict({
    "scenes": {"kind": "scenes", "weight": scenes, "options": scene_options},
    "corpus": {"kind": "corpus", "weight": corpus, "options": {}},
  })  # fmt: skip


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters that draw, describe and answer after minutes on a laptop."""
  c.model.update(patch_position="learned", scan_unroll=4)
  c.diffusion.update(predict="x0", time_shift=8.0)
  c.data.update(tokenizer="configs/tokenizers/embedded.json", noise_limit=0.0)
  c.data.update(patch_size=16, seq_len=128, images_per_row=12)
  tasks = dict(draw=3.3, describe=1.15, ask=2.4, edit=0.8, multi=0.2)
  scenes = dict(max_objects=2, grid=2, questions_per_image=4, tasks=tasks)
  scenes["num_documents"] = 10_000_000  # drawn as they are read: never twice the same
  c.data.sources = ConfigDict({
    "scenes": {"kind": "scenes", "weight": 0.93, "options": scenes},
    "emoji": {"kind": "emoji", "weight": 0.06, "options": {"limit": 48}},
    "corpus": {"kind": "corpus", "weight": 0.01, "options": {"max_bytes": 120}},
  })  # fmt: skip
  c.optim.update(name="muon", learning_rate=1e-2, adam_learning_rate=3e-3)
  c.optim.weight_decay = 0.0
  c.train.update(steps=3000, batch_size=16, image_loss_weight=15.0)
  c.train.update(eval_every=1000, sample_every=1000)
  c.checkpoint.every_steps = 500
  c.sample.update(sampler="ddpm", steps=32, schedule_shift=8.0, guidance=1.5)
  c.sample.max_text_tokens = 48
  return c


def tiny_long(c: ConfigDict) -> ConfigDict:
  """`tiny`, half as deep again, for an hour, with up to three things in a picture."""
  c = tiny(c)
  c.model.update(depth=6, scan_unroll=6)
  c.data.sources.scenes.options.max_objects = 3
  c.data.sources.scenes.options.tasks.update(draw=3.4, describe=1.0)
  c.train.update(steps=12_000, eval_every=1000, sample_every=2000)
  c.checkpoint.every_steps = 1000
  return c


TINY = {"tiny": tiny, "tiny-long": tiny_long}
