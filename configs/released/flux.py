"""FLUX.1 dev and schnell (Black Forest Labs 2024): two streams, then one.

  unijax import flux FOLDER --out=runs/flux
  unijax sample --workdir=runs/flux --conditions=FILE.safetensors

FOLDER is a pipeline of diffusers, such as black-forest-labs/FLUX.1-dev, of which
`transformer`, `vae` (which becomes RUN/codec) and `scheduler` are read. Its encoders of
text are not here: T5's vectors and CLIP's pooled one are given in a file
(unijax/infer/conditions.py), and the run draws and is not trained. It is tuned as the
decoder of a bridge (configs/dreamllm.py:tiny-on=RUN), or with an encoder of captions
of its own (--config.dit.told=captions).

Rotary positions have three axes, of which the first turns nothing here; pairs that are
neighbours are put half a head apart on the way in. Patches of 2 x 2 latents come
channel by channel in the files, place by place here. dev is told the scale of guidance
(`sample.guidance_told`) and has its shift from the number of patches; 28 steps, schnell
4. Pictures are squares, of 1024 pixels until `data.image_size` says another size.
"""

from ml_collections import ConfigDict

from configs.released import _dit, autoencoder_kl
from configs.released._dit import (  # noqa: F401
  CONFIGS,
  DROPS,
  FILE,
  FOLDERS,
  OURS_ONLY,
  PARTS,
  PREFIXES,
)
from unijax import codecs
from unijax.interop.ops import COPY, LINEAR, Patches, RopePairs, Shuffled

ALONE = False
SIDE = 128  # latents a side of the official pipeline's pictures
GUIDANCE, STEPS, FEW_STEPS = 3.5, 28, 4  # of dev; of schnell


def KEYS(config):  # noqa: N802 (a table, which depends on the width of heads)
  """All keys for a config of ours."""
  channels = codecs.sizes(config.data.codec).channels
  head = config.dit.width // config.dit.heads
  enter = Patches(channels, flat=True), COPY
  leave = Shuffled(channels, LINEAR), Shuffled(channels)

  def turned(op):
    return RopePairs(head, op)

  return (
    *_dit.around("x_embedder", "proj_out", enter, leave),
    *_dit.double("blocks", "transformer_blocks.{i}", turned),
    *_dit.single("single_blocks", "single_transformer_blocks.{i}", turned),
  )


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  t = published.part("transformer.")
  numbers = t["in_channels"]
  t.only("patch_size", 1)
  t.only("out_channels", None, numbers)
  if numbers % 4:
    t.only("in_channels", "a multiple of 4")
  c = _dit.get_config(published, numbers // 4)
  _dit.sized(c, t)
  told = t.get("guidance_embeds", False)
  c.dit.update(
    depth=t["num_layers"], single_depth=t["num_single_layers"], positions="rope",
    rope_axes=tuple(t.get("axes_dims_rope", (16, 56, 56))), qk_norm=True, guidance=told,
  )  # fmt: skip
  c.data.image_size = SIDE * codecs.sizes(c.data.codec).stride
  c.sample.update(steps=STEPS if told else FEW_STEPS, guidance=1.0)
  c.sample.guidance_told = GUIDANCE if told else 1.0
  return c


def to_published(config) -> dict:
  """Fields of the files of a pipeline that are about these parts."""
  d = config.dit
  transformer = {
    "_class_name": "FluxTransformer2DModel", "attention_head_dim": d.width // d.heads,
    "axes_dims_rope": list(d.rope_axes), "guidance_embeds": d.guidance,
    "in_channels": 4 * config.codec.channels, "joint_attention_dim": d.condition_width,
    "num_attention_heads": d.heads, "num_layers": d.depth,
    "num_single_layers": d.single_depth, "out_channels": None, "patch_size": 1,
    "pooled_projection_dim": d.pooled_width,
  }  # fmt: skip
  return {"transformer": transformer, **_dit.to_published(config)}


def _size(told: bool) -> dict:
  transformer = {
    "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56], "guidance_embeds": told, "in_channels": 64,
    "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19,
    "num_single_layers": 38, "out_channels": None, "patch_size": 1,
    "pooled_projection_dim": 768,
  }  # fmt: skip
  scheduler = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256,
    "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
    "num_train_timesteps": 1000, "shift": 3.0 if told else 1.0,
    "use_dynamic_shifting": told,
  }  # fmt: skip
  vae = autoencoder_kl.PUBLISHED["flux"]
  return {"transformer": transformer, "scheduler": scheduler, "vae": vae}


PUBLISHED = {"dev": _size(True), "schnell": _size(False)}
PARAMETERS = {"dev": 11_901_408_320, "schnell": 11_891_178_560}  # no autoencoder
