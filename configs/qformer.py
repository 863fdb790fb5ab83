"""BLIP-2, stage one (Li et al. 2023): learned queries read a picture for its text.

  --config=configs/qformer.py:tiny    trains on a laptop, its own eyes included
  --config=configs/qformer.py:tiny --config.align.frozen=RUN    with the eyes of RUN
  --config=configs/qformer.py:base    the published size

Axes: 32 queries that share self-attention with the text, cross-attention in every
second block; contrast (best query), matching (hard negatives) and writing, of equal
weight.

Parameters: `base` has 186,336,830 beside the encoder of pictures (188 million in the
paper), of which a language model reads through 105,137,664 (tests hold both).

Differences from the paper: no smoothing of labels; one learned scale for the contrast,
as in CLIP; the encoder of pictures is EVA-CLIP g, whose weights are trained here unless
`align.frozen` names a run of it; 32 positions of text where BERT has 512.
"""

from ml_collections import ConfigDict

from configs import base, clip, eva_clip

PUBLISHED, COUNTED = {"base": 188e6}, {"base": ("*", "!vision/*")}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or base."""
  if preset == "tiny":
    c = clip.tiny(base.get_config())
    c.train.update(task="alignment", batch_size=32)
    c.text.update(depth=4)
  elif preset == "base":
    c = eva_clip.get_config("g-14")
    c.text.update(depth=12, width=768, heads=12, mlp_width=3072, norm="post")
    c.text.update(vocab=30_523, length=32, norm_eps=1e-12)
    c.align.update(queries=32, width=256)
    c.optim.update(learning_rate=1e-4, weight_decay=0.05, final_fraction=0.1)
    c.train.update(steps=250_000, batch_size=1680)
  else:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, base")
  c.align.update(objective="queries", image_projection="bias", text_projection="bias")
  return c
