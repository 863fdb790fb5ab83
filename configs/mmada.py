"""MMaDA (Yang et al. 2025): text and image codes as masked tokens, one mask, one loss.

  --config=configs/mmada.py:tiny       trains on a laptop, embedded data
  --config=configs/mmada.py:8B         the paper's size (that of LLaDA-8B)
Axes: codes read and written; masked text and codes; bidirectional in blocks of text and
in images, causal between them; shared parameters; 1-D RoPE; QK-norm; no timestep.

Differences from the paper, at its size: text stands in blocks of 64 positions that see
what is before them, not in one answer of fixed length that sees itself, so prefixes are
cached exactly. One block or image of a document is hidden in a step and what precedes
it is clean, as in sampling; the paper hides all of an answer. Ends are EOS or BOI and
padding, not EOS throughout. The loss of a block is over its length (the paper: the
answer's), that of images over all codes, which pi / 2 makes up for. `data.codec` is
"blocks" (216 colours, 128 pixels, the same 1,024 codes) until one of 8,192 codes is
named. Prompts are text before BOI; no reasoning, no reinforcement; QK-norm.
`tiny` is the small model of configs/transfusion.py with 64 codes an image.
"""

import math

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"8B": 8_015_581_184 + 2 * 8192 * 4096}  # LLaDA, and rows of the codes


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 8B."""
  if preset not in ("tiny", "8B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 8B")
  c = (tiny if preset == "tiny" else paper)(base.get_config())
  c.model.update(write="masked_all", image_mask="bidirectional", qk_norm=True)
  c.diffusion.update(time_law="uniform", time_shift=1.0)
  c.data.update(codec="blocks", patch_size=1, noise_limit=0.0, caption_dropout=0.1)
  c.train.image_loss_weight = math.pi / 2
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """The decoder of LLaDA-8B with 8,192 codes more; section 4.1 of the paper."""
  c.model.update(depth=32, width=4096, heads=32, kv_heads=32, head_dim=128)
  c.model.update(mlp_width=12288, rope_theta=500_000.0, text_block=64)
  c.model.update(dtype="bfloat16", remat="full")
  c.data.update(image_size=128, seq_len=4096, images_per_row=3, vocab=134_656)
  scenes = dict(image_size=128, chat=False, caption_first=0.5)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=5e-5, warmup_steps=5000, b2=0.999, weight_decay=0.01)
  c.train.update(batch_size=1280, steps=500_000)
  c.sample.update(steps=50, guidance=4.5, text_steps=32, max_text_tokens=1024)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters on the embedded data."""
  c = transfusion.tiny(c)
  c.data.update(seq_len=384, images_per_row=6)
  c.sample.update(steps=18, guidance=2.75)
  return c
