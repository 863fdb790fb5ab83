"""Emu3 (Wang et al. 2024, arXiv 2409.18869): next-token prediction is all.

  --config=configs/emu3.py:tiny    trains on a laptop, embedded data
  --config=configs/emu3.py:8B      the paper's size, 8,100 codes an image

Axes: codes read and written; next token over codes; causal images; shared parameters;
1-D RoPE with a long base; no QK-norm; codes weigh half of what text does; at the size
of the paper each line of codes ends in a token, and another follows the last.

Differences from the paper, at its size: `data.codec` is "blocks" (216 colours, images
of 360 pixels, hence the same 90 x 90 codes) until a codec of 32,768 codes is named, and
no video; the size of an image is not written before it; no dropout; guidance contrasts
with no text instead of a negative prompt (`sample.negative_prompt`); pictures and text
are trained together, not in two stages; no preference tuning.

`tiny` is the `tiny` of configs/chameleon.py with these axes.
"""

from ml_collections import ConfigDict

from configs import base, chameleon, transfusion

PUBLISHED = {"8B": 8_492_011_520}  # without the codec, which is a run of its own here


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 8B."""
  if preset not in ("tiny", "8B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 8B")
  c = base.get_config()
  c = chameleon.tiny(c) if preset == "tiny" else paper(c)
  c.model.update(write="codes", image_mask="causal", qk_norm=False, rope_theta=1e6)
  c.data.update(codec="blocks", patch_size=1, noise_limit=0.0)
  c.train.image_loss_weight = 0.5
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Section 2 of the paper."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=8, head_dim=128)
  c.model.update(mlp_width=14_336, norm_eps=1e-5, dtype="bfloat16", remat="full")
  c.data.update(image_size=360, seq_len=9216, images_per_row=1, vocab=184_622)
  c.data.image_tokens = (("line", 151_846), ("close", 151_847))  # its EOL, its EOF
  scenes = dict(image_size=360, chat=False, caption_first=0.5)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=5e-5, final_fraction=0.0, weight_decay=0.1)
  c.train.update(batch_size=512, steps=500_000)
  c.sample.update(guidance=3.0, image_top_k=2048, temperature=1.0)
  return c
