"""Janus (Wu et al. 2024): SigLIP's features are read, codes are written, next token.

  --config=configs/janus.py:tiny       trains on a laptop, embedded data
  --config=configs/janus.py:1.3B       the paper's size, 576 features and codes an image

Axes: features read; MLP connector; next token over codes, through layers of their own;
causal images; shared parameters; 1-D RoPE; guidance against padding; three stages.

Differences from the paper, at its size: `data.codec` is "blocks" (images of 96 pixels,
read in patches of 4, hence the same 576 codes and features) until one of 16,384 codes
is named; one batch size. `tiny` is configs/chameleon.py's with 16 features as its eyes.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

ADAPTORS = ("*", "!connector/*", "!codes/*")
STAGES = {  # steps, learning rate, shares of read, draw, text, what rests
  "adaptors": (10_000, 1e-3, (1.0, 1.0, 0.0), ADAPTORS),
  "pretraining": (180_000, 1e-4, (2.0, 5.0, 3.0), ("vision/*",)),
  "tuning": (24_000, 2e-5, (7.0, 10.0, 3.0), ()),
}
SIZES = {"1.3B": (24, 2048, 16, 5632, STAGES)}  # depth, width, heads, hidden width


def get_config(preset: str = "tiny", sizes=None) -> ConfigDict:
  """Returns the config of a preset: tiny, or one of `sizes`, those of the paper."""
  sizes, c = sizes or SIZES, base.get_config()
  if preset not in ("tiny", *sizes):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(sizes)}")
  c = transfusion.tiny(c) if preset == "tiny" else paper(c, *sizes[preset])
  c.model.update(read="features", write="codes", code_adapter="mlp")
  c.model.image_mask, c.data.without_text = "causal", "padded"
  c.data.update(codec="blocks", patch_size=1, noise_limit=0.0, images_per_row=6)
  c.data.seq_len = 384 if preset == "tiny" else 4096
  c.train.image_loss_weight = 1.0
  return c


def paper(c: ConfigDict, depth, width, heads, hidden, stages) -> ConfigDict:
  """Section 3 of the paper."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=heads, head_dim=128)
  c.model.update(mlp_width=hidden, norm_eps=1e-6, qk_norm=False)
  c.vision.update(depth=24, width=1024, heads=16, mlp_width=4096, patch_size=4)
  c.model.dtype, c.model.remat = c.vision.dtype, c.vision.remat = "bfloat16", "full"
  c.data.update(image_size=96, vocab=102_400 + 16_384)
  for name, tasks in (("read", dict(describe=1.0, ask=1.0)), ("draw", dict(draw=1.0))):
    options = dict(image_size=96, tasks=tasks)
    c.data.sources[name] = {"kind": "scenes", "weight": 1.0, "options": options}
  c.data.sources.text = {"kind": "corpus", "weight": 1.0, "options": {}}
  c.optim.update(schedule="constant", weight_decay=0.0)
  c.train.update(batch_size=512, steps=0, stages=tuple(stages))
  for name, (steps, rate, shares, rest) in stages.items():
    of = zip(("read", "draw", "text"), shares, strict=True)
    data = {"sources": {source: {"weight": weight} for source, weight in of}}
    optim = {"learning_rate": rate, "freeze": rest}
    c.stages[name] = {"steps": steps, "optim": optim, "data": data}
  c.sample.update(guidance=5.0)
  return c
