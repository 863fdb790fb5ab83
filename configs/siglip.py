"""SigLIP (Zhai et al. 2023): every pair of a batch is a yes or a no.

  --config=configs/siglip.py:tiny             trains on a laptop, embedded data
  --config=configs/siglip.py:so400m-14-384    the published size

Axes: two encoders; sigmoid of each pair with a learned scale and bias; attention
pooling of patches; bidirectional text read at its last position, padding included.

Parameters: so400m-14-384 877,960,498 (tests hold it).

Differences from the paper: as configs/clip.py; the table has its published 32,000 rows.
"""

from ml_collections import ConfigDict

from configs import base, clip

PUBLISHED = {"so400m-14-384": 877_960_498}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or so400m-14-384."""
  c = base.get_config()
  c.train.task = "alignment"
  c.align.update(objective="sigmoid", scale=10.0, max_scale=1000.0, bias=-10.0)
  c.align.update(image_projection="none", text_projection="bias")
  c.text.update(causal=False, pool="last")
  if preset == "tiny":
    c = clip.tiny(c)
    c.align.width = c.vision.width
    return c
  if preset != "so400m-14-384":
    raise ValueError(f"unknown preset {preset!r}; known: tiny, so400m-14-384")
  shape = dict(depth=27, width=1152, heads=16, mlp_width=4304, mlp="gelu_tanh")
  c.vision.update(dtype="bfloat16", remat="full", patch_size=14, **shape)
  c.text.update(dtype="bfloat16", remat="full", vocab=32_000, length=64, **shape)
  c.align.width = 1152
  c.data.image_size, c.vision.crop = 384, True  # 27 patches of 14; 6 pixels are lost
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": {}}
  c.optim.update(learning_rate=1e-3, warmup_steps=10_000, b2=0.95, weight_decay=1e-4)
  c.optim.update(final_fraction=0.0)
  c.train.update(steps=1_000_000, batch_size=32_768, eval_every=5000)
  return c
