"""BAGEL (Deng et al. 2025): a Mixture-of-Transformers that reads images twice.

  --config=configs/bagel.py:tiny       trains on a laptop, embedded data
  --config=configs/bagel.py:7B-MoT     the paper's size, 7B active of 14B

Axes: a context image is read as clean patches, then as features of SigLIP; MLP
connector; rectified flow in the backbone; linear patches; a copy of all parameters of a
block for images that are written, one for text and features; bidirectional images; one
rotary position an image; QK-norm; time added after the linear layer. A drawn image that
is read again stands twice, noised and clean, which takes dense attention.

Differences from the paper, at its size: BOI and EOI stand outside of an image's mask;
images are squares of 448 pixels instead of 224 to 1024 at their own shapes; pixels
(patches of 16) stand for 2 x 2 latents of FLUX's autoencoder; places in the image are
learned, and features have only the encoder's; text, patches and features of context are
not dropped one by one (a caption is, 10 %); one guidance scale without norms put back;
one stage; scenes of this repository are the data.
`tiny` is configs/transfusion.py's; the release itself is configs/released/bagel.py.
"""

from ml_collections import ConfigDict

from configs import base, transfusion

PUBLISHED = {"7B-MoT": 14_607_260_128}  # without the autoencoder


def get_config(preset: str = "tiny") -> ConfigDict:
  """Returns the config of a preset: tiny or 7B-MoT."""
  if preset not in ("tiny", "7B-MoT"):
    raise ValueError(f"unknown preset {preset!r}; known: tiny, 7B-MoT")
  c = base.get_config()
  c = transfusion.tiny(c) if preset == "tiny" else paper(c)
  c.model.update(read="both", connector="mlp", sharing="full", positions="shared")
  c.model.update(patch_position="learned", time_injection="add", qk_norm=True)
  c.model.attention, c.diffusion.path = "dense", "rectified_flow"
  c.data.update(noise_limit=0.0, caption_dropout=0.1, clean_copy=True)
  if preset == "tiny":
    c.data.seq_len = 192
  return c


def paper(c: ConfigDict) -> ConfigDict:
  """Sections 2 and 4 of the paper."""
  c.model.update(depth=28, width=3584, heads=28, kv_heads=4, head_dim=128)
  c.model.update(mlp_width=18944, norm_eps=1e-6, rope_theta=1e6)
  c.model.update(bias="qkv", dtype="bfloat16", remat="full")
  c.vision.update(depth=26, width=1152, heads=16, mlp_width=4304, mlp="gelu_tanh")
  c.vision.update(patch_size=14, dtype="bfloat16", remat="full")
  c.diffusion.update(predict="velocity", time_law="logit_normal")
  c.data.update(image_size=448, patch_size=16, seq_len=32_768, images_per_row=24)
  c.data.vocab = 152_064
  tasks = dict(draw=0.6, describe=0.1, ask=0.1, edit=0.15, multi=0.05)
  scenes = dict(image_size=448, tasks=tasks)
  c.data.sources = transfusion.pairs(scenes=0.95, corpus=0.05, scene_options=scenes)
  c.optim.update(learning_rate=1e-4, schedule="constant", weight_decay=0.0, eps=1e-15)
  c.train.update(batch_size=128, steps=200_000, image_loss_weight=1.0, ema_decay=0.9999)
  c.sample.update(sampler="euler", steps=49, schedule_shift=3.0, guidance=4.0)
  c.sample.update(guidance_low=0.4)
  return c
