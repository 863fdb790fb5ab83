"""FLUX.1 (Black Forest Labs 2024) and SD3 (Esser et al. 2024): joint attention.

  --config=configs/flux.py:tiny     trains in minutes, draws scenes
  --config=configs/flux.py:12B      FLUX.1's transformer: 19 double, 38 single blocks
  --config=configs/flux.py:2B       SD3-medium's: 24 double blocks

Their released weights are read by configs/released/sd3.py and flux.py.

Axes: pictures only; patches of latents; words and patches are two streams under one
attention, in FLUX.1 one stream after that; rectified flow, velocity, timesteps logit
normal and shifted; the pooled caption moves the norms; FLUX.1 turns patches by their
place, SD3 adds fixed 2-D sines.

Differences: one text encoder of T5-XXL's size is trained along, where both papers keep
T5 and CLIP frozen; the mean of its vectors stands for CLIP's pooled one. Patches of 16
pixels stand for 2x2 VAE latents of 16 channels until `data.codec` names a codec. No
embedding of the guidance scale: FLUX.1-dev distils guidance, which FLUX.1-pro does not.
SD3's positions are cut from a larger table; ours begin at the corner.
"""

from ml_collections import ConfigDict

from configs import base, ldm

SIZES = {  # double blocks, single blocks, width, positions, QK-norm
  "12B": (19, 38, 3072, "rope", True),
  "2B": (24, 0, 1536, "sincos", False),
}
PUBLISHED = {"12B": 11_901_408_320, "2B": 2_028_328_000}  # without text encoders
COUNTED = dict.fromkeys(PUBLISHED, ("dit/*",))


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny, 12B or 2B."""
  if preset == "tiny":
    c = ldm.tiny(base.get_config())
    c.dit.update(depth=2, single_depth=2, positions="rope")
  elif preset in SIZES:
    c = ldm.paper(base.get_config())
    double, single, width, positions, qk_norm = SIZES[preset]
    c.dit.update(depth=double, single_depth=single, width=width, heads=24)
    c.dit.update(mlp_width=4 * width, positions=positions, qk_norm=qk_norm)
    c.diffusion.update(path="rectified_flow", predict="velocity")
    c.diffusion.update(time_law="logit_normal", time_shift=3.0)
    c.data.update(image_size=1024, caption_length=512 if single else 256)
    c.sample.update(sampler="euler", steps=28, schedule_shift=3.0, guidance=5.0)
  else:
    raise ValueError(f"unknown preset {preset!r}; known: tiny, {', '.join(SIZES)}")
  c.train.task = "drawing"
  c.dit.update(conditioning="joint", adaln="block", pooled=True)
  return c
