"""LMFusion (Shi et al. 2024): a frozen language model with a copy of it for images.

  --config=configs/lmfusion.py:tiny    trains on a laptop, embedded data
  --config=configs/lmfusion.py:8B      Llama-3 8B and its copy, as published

Axes: diffusion in the backbone, epsilon on the cosine schedule; U-Net patches of 2 x 2
latents; bidirectional images; 1-D RoPE; everything in two copies under one attention
("full"), of which the text copy, its embedding and its head are frozen; what follows an
image reads it noised, as in configs/transfusion.py (no clean copies).

Differences from the paper, at its size: those of configs/transfusion.py (pixels stand
in for latents, scenes for 380 million captioned photographs), hence a U-Net of five
levels, narrowed to 0.275 billion parameters (the paper: 0.27); steps are those of its
half-FLOPs run at Transfusion's batch. Llama-3 itself does not come with this: both
copies begin with a language model by --init-from='RUN:transformer\\.(.*)\\.(kernel|
scale)=>transformer.\\1.text.\\2|transformer.\\1.image.\\2' (in one line, from a dense
run of the same size, with --init-allow=missing,unexpected for what only one has).

`tiny` is the `tiny` of configs/transfusion.py with this sharing and these patches. It
has no language model to begin with, so its first stage makes one: the text copy learns
the text of all documents beside an image copy at rest; the second stage holds it and
trains the rest.
"""

from ml_collections import ConfigDict

from configs import transfusion

TEXT = ("embedding/*", "text_head/*", "transformer/*/text/*")
VOCAB, PUBLISHED = {"8B": 128_256}, {"8B": 8_030_261_248}  # Llama-3 8B alone
COUNTED = {"8B": TEXT}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 8B."""
  if preset not in ("tiny", "8B"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 8B")
  if preset == "8B":
    return published(transfusion.get_config("7B-unet"))
  c = transfusion.get_config("tiny")
  c.model.update(sharing="full", patch_codec="unet", unet_width=8)
  language = {"freeze": ("*", *(f"!{glob}" for glob in TEXT))}
  c.train.update(steps=0, stages=("language", "images"))
  c.stages.language = {"steps": 1000, "optim": language}
  c.stages.language.train = {"image_loss_weight": 0.0}
  c.stages.images = {"steps": 2000, "optim": {"freeze": TEXT}}
  return c


def published(c: ConfigDict) -> ConfigDict:
  """Section 4.1 on top of Transfusion's recipe."""
  c.model.update(kv_heads=8, mlp_width=14336, rope_theta=5e5, unet_width=84)
  c.model.sharing = "full"
  c.data.vocab = 128_256
  del c.data.sources.corpus  # text alone would train nothing
  c.optim.update(freeze=TEXT, learning_rate=1e-4, final_fraction=0.15)
  c.train.steps = 125_000
  c.sample.guidance = 1.55
  return c
