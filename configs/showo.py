"""Show-o (Xie et al. 2024): next-token text, masked image codes, one decoder.

  --config=configs/showo.py:tiny       trains on a laptop, embedded data
  --config=configs/showo.py:1.3B       the paper's size, 256 codes an image
Axes: codes read and written; masked tokens over codes with the cosine schedule;
bidirectional images; shared parameters; 1-D RoPE; QK-norm; no timestep is given. At the
paper's size layer norms, parallel branches, RoPE on half of a head, biases (Phi-1.5).

Differences from the paper, at its size: `data.codec` is "blocks" (216 colours, images
of 64 pixels, hence the same 256 codes) until a codec of 8,192 codes is named; a picture
that is asked about is read like any other; one weight of text (the paper: 0.1 for
language, 1 for understanding). The masked loss is divided by all codes of drawn images
instead of the hidden ones, which pi / 2 makes up for; guidance w is 1 + w here. `tiny`
is the small model of configs/transfusion.py with 64 codes an image, whose mask BOI and
EOI are outside of.
"""

from math import pi

from ml_collections import ConfigDict

from configs import base, transfusion


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 1.3B."""
  if preset not in PRESETS:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
  c = PRESETS[preset](base.get_config())
  c.model.update(write="masked", qk_norm=True)
  c.diffusion.update(time_law="uniform", time_shift=1.0)
  c.data.update(codec="blocks", patch_size=1, noise_limit=0.0, caption_dropout=0.1)
  c.train.update(image_loss_weight=pi / 2)
  c.sample.update(steps=18, guidance=2.75, confidence_decay="product")
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Section 3 of the paper, first stage."""
  c.model.update(depth=24, width=2048, heads=32, kv_heads=32, head_dim=64)
  c.model.update(mlp_width=8192, mlp="gelu_tanh", block="parallel", norm="layer")
  c.model.update(qk_norm_kind="layer", rope_fraction=0.5, bias="all", head_bias=True)
  c.model.update(dtype="bfloat16", remat="full", image_mask="framed")
  c.data.update(image_size=64, seq_len=1024, images_per_row=3)
  scenes = dict(image_size=64, chat=False, caption_first=0.5)
  c.data.sources = transfusion.pairs(scenes=1.0, corpus=1.0, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, warmup_steps=5000, b2=0.999, weight_decay=0.01)
  c.train.update(batch_size=512, steps=500_000)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters on the embedded data."""
  c = transfusion.tiny(c)
  c.data.update(seq_len=384, images_per_row=6)
  return c


PRESETS = {"tiny": tiny, "1.3B": paper}
VOCAB, PUBLISHED = {"1.3B": 58_498}, {"1.3B": 1_448_176_770}  # without the codec
