"""CLIP (Radford et al. 2021): a picture and its text find each other in the batch.

  --config=configs/clip.py:tiny         trains on a laptop, embedded data
  --config=configs/clip.py:L-14-336     published sizes: B-32, B-16, L-14-336
Axes: two encoders; softmax over the batch both ways, learned scale up to 100; class
token; causal text read at its end.
Differences from the paper: pairs of equal captions are no negatives of each other; the
text table keeps its published 49,408 rows with any tokenizer; no random crops. `tiny`
has the exact GELU and pixels in [-1, 1].
"""

from ml_collections import ConfigDict

from configs import base

SIZES = {  # pixels, patch; vision depth, width, heads; text width, heads
  "B-32": (224, 32, 12, 768, 12, 512, 8),
  "B-16": (224, 16, 12, 768, 12, 512, 8),
  "L-14-336": (336, 14, 24, 1024, 16, 768, 12),
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PUBLISHED = {"B-32": 151_277_313, "B-16": 149_620_737, "L-14-336": 427_944_193}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, or a published size."""
  c = base.get_config()
  c.train.task = "alignment"
  c.vision.update(pool="class", patch_bias=False, embed_norm=True, norm_eps=1e-5)
  c.text.update(causal=True, pool="eos", norm_eps=1e-5)
  if preset == "tiny":
    return tiny(c)
  if preset not in SIZES:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(['tiny', *SIZES])}")
  pixels, patch, depth, width, heads, text_width, text_heads = SIZES[preset]
  exact = dict(mlp="quick_gelu", dtype="bfloat16", remat="full")
  c.vision.update(depth=depth, width=width, heads=heads, mlp_width=4 * width, **exact)
  c.vision.update(patch_size=patch, mean=MEAN, std=STD)
  c.text.update(depth=12, width=text_width, heads=text_heads, mlp_width=4 * text_width)
  c.text.update(vocab=49_408, length=77, **exact)
  c.data.image_size, c.align.width = pixels, text_width
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": {}}
  c.optim.update(learning_rate=5e-4, warmup_steps=2000, b2=0.98, eps=1e-6)
  c.optim.update(weight_decay=0.2, final_fraction=0.0)
  c.train.update(steps=400_000, batch_size=32_768, eval_every=5000)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """Half a million parameters and a few minutes: scenes of two things, and emoji."""
  c.vision.update(depth=3, width=96, heads=4, mlp_width=256)
  c.text.update(depth=2, width=96, heads=4, mlp_width=256, length=24)
  c.data.update(tokenizer="configs/tokenizers/embedded.json", image_size=32)
  drawings = dict(limit=80, shift=2)
  things = dict(max_objects=2, grid=2, num_documents=10_000_000)
  c.data.sources.scenes = {"kind": "scenes", "weight": 0.7, "options": things}
  c.data.sources.emoji = {"kind": "emoji", "weight": 0.3, "options": drawings}
  c.optim.update(learning_rate=2e-3, warmup_steps=50, weight_decay=0.05)
  c.train.update(steps=1500, batch_size=64, ema_decay=0.99, eval_every=500)
  return c
