"""Chameleon (Chameleon Team 2024): text and image codes as one sequence, next token.

  --config=configs/chameleon.py:tiny       trains on a laptop, embedded data
  --config=configs/chameleon.py:7B         the paper's sizes: 7B, 34B

Axes: codes read and written; next token over codes; causal images; shared parameters;
1-D RoPE; QK-norm (published: a layer norm a head); norms after branches (34B); z-loss.

Differences from the paper, at its sizes: `data.codec` is "blocks" (216 colours, images
of 128 pixels, hence the same 1,024 codes) until a codec of 8,192 codes is named; no
dropout (7B); guidance has one scale and one shadow instead of two; EOI is not
predicted; the data are those of this repository.

`tiny` is the small model of configs/transfusion.py with 64 codes an image.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

SIZES = {  # depth, width, heads, key/value heads, hidden width
  "7B": (32, 4096, 32, 32, 11008),
  "34B": (48, 8192, 64, 8, 22016),
}
VOCAB = dict.fromkeys(SIZES, 65_536)
PUBLISHED = {"7B": 7_043_090_432, "34B": 34_323_732_480}  # with the encoder of images


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, or a size of the paper."""
  if preset != "tiny" and preset not in SIZES:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(SIZES)}")
  c = base.get_config()
  c = tiny(c) if preset == "tiny" else paper(c, *SIZES[preset])
  c.model.update(write="codes", image_mask="causal", qk_norm=True)
  c.data.update(codec="blocks", patch_size=1, noise_limit=0.0)
  c.train.update(image_loss_weight=1.0, z_loss=1e-5)
  return c


def paper(c: ConfigDict, depth, width, heads, kv_heads, hidden) -> ConfigDict:
  """Section 2 of the paper."""
  c.model.update(depth=depth, width=width, heads=heads, kv_heads=kv_heads)
  c.model.update(head_dim=width // heads, mlp_width=hidden, norm_eps=1e-5)
  c.model.update(dtype="bfloat16", remat="full", qk_norm_kind="layer_heads")
  c.model.block = "branch" if depth == 48 else "pre"  # 34B
  c.data.update(image_size=128, seq_len=4096, images_per_row=3)
  scenes = dict(image_size=128, chat=False, caption_first=0.5)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, warmup_steps=4000, weight_decay=0.1, clip_norm=1.0)
  c.train.update(batch_size=2048, steps=500_000)
  c.sample.update(guidance=3.0, temperature=0.7, top_p=0.9)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters on the embedded data."""
  c = transfusion.tiny(c)
  c.data.update(seq_len=384, images_per_row=6)
  return c
