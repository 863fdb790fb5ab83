"""Mixture-of-Transformers (Liang et al. 2024) on the Transfusion recipe.

  --config=configs/mot.py:tiny      trains on a laptop, embedded data
  --config=configs/mot.py:7B        the sizes 0.16B ... 7B, counting what is active

Axes: those of configs/transfusion.py (diffusion in the backbone, linear patches,
bidirectional images, 1-D RoPE), but every parameter of a block and of the final norm
has a copy for text and one for images; attention is over all positions (algorithm 1).

Differences from the paper: this is the last of its three settings,
text and images with Transfusion's objective; no speech, and no image tokens as in
Chameleon's. All differences of configs/transfusion.py from Transfusion's paper hold
here too. The embedding and the text head stay text's alone, the patch codec images'
alone, as there.

Warm start from a dense run of the same size, each weight to both copies:
--init-from='RUN:transformer\\.(.*)\\.(kernel|scale)=>transformer.\\1.text.\\2|
transformer.\\1.image.\\2' (in one line).
"""

from ml_collections import ConfigDict

from configs import transfusion

PUBLISHED, VOCAB = transfusion.PUBLISHED, transfusion.VOCAB  # what is active counts
COUNTED = {
  size: (*globs, "!transformer/*/image/*", "!transformer/image/*")
  for size, globs in transfusion.COUNTED.items()
}


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or a size of the paper."""
  if preset not in ("tiny", *transfusion.SIZES):
    names = ", ".join(("tiny", *transfusion.SIZES))
    raise ValueError(f"unknown preset {preset!r}; known: {names}")
  c = transfusion.get_config(preset)
  c.model.sharing = "full"
  return c
