"""Orthus (Kou et al. 2024): text and continuous patches in order, a head for each.

  --config=configs/orthus.py:tiny      trains on a laptop, embedded data
  --config=configs/orthus.py:7B        the paper's size (that of Chameleon-7B)

Axes: continuous patches read clean; next token over text, a diffusion head a patch;
causal everywhere; shared parameters; 1-D RoPE; QK-norm.

Differences from the paper, at its size: pixels (images of 256, patches of 8: the same
1,024 positions, of 192 channels) stand in for the 256 features of its encoder before
quantization until a codec is named; they enter by a linear map, not by a softmax over
the codebook's embeddings; trained from scratch, not from Chameleon; the schedule of
the noise is DDPM's linear one, not the scaled linear one with zero terminal SNR, and
goes to t = 0.999; one scale of guidance instead of one for text and one for images.
All differences of configs/chameleon.py from its paper hold here too, but for z-loss.

`tiny` is the small model of configs/transfusion.py with 16 patches an image.
"""

from ml_collections import ConfigDict

from configs import base, chameleon, transfusion


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 7B."""
  if preset not in PRESETS:
    raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
  c = PRESETS[preset](base.get_config())
  c.model.update(write="token_diffusion", image_mask="causal", qk_norm=True)
  c.data.update(codec="pixels", patch_size=8, noise_limit=0.0, caption_dropout=0.1)
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Sections 3 and 4 of the paper."""
  c = chameleon.paper(c, *chameleon.SIZES["7B"])
  c.model.update(head_depth=3, head_width=1536)
  c.diffusion.update(path="linear", predict="v", time_max=0.999)
  c.data.update(image_size=256, vocab=65_536)
  for source in c.data.sources.values():
    if source.kind == "scenes":
      source.options.image_size = 256
  c.train.token_draws = 8
  c.sample.update(sampler="ddim", token_steps=100, temperature=1.0)
  return c


def tiny(c: ConfigDict) -> ConfigDict:
  """One million parameters and a head on the embedded data."""
  c = transfusion.tiny(c)
  c.model.patch_position = "learned"
  c.data.update(seq_len=256, images_per_row=8)
  c.diffusion.update(time_shift=2.0)
  c.sample.update(token_steps=24, schedule_shift=2.0)
  return c


PRESETS = {"tiny": tiny, "7B": paper}
