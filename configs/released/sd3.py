"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): two streams under one attention.

  unijax import sd3 FOLDER --out=runs/sd3
  unijax sample --workdir=runs/sd3 --conditions=FILE.safetensors

FOLDER is a pipeline of diffusers, such as stabilityai/stable-diffusion-3-medium-
diffusers, of which `transformer`, `vae` (which becomes RUN/codec) and `scheduler` are
read. Its encoders of text, two of CLIP and T5, are not here: what they say is given in
a file (unijax/infer/conditions.py), and the run draws and is not trained. It is tuned
as the decoder of a bridge (configs/dreamllm.py:tiny-on=RUN), or with an encoder of
captions of its own (--config.dit.told=captions).

The table of places, 192 x 192 of them in the files, is kept as it is, and a picture
takes its middle. 28 steps of Euler with guidance 7; times end at the time that the
scheduler calls its least, shifted once, and are shifted again. Pictures are squares.

Refused: a transformer of which only some of the first blocks are dual.
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
from unijax.interop.keymap import Key
from unijax.interop.ops import COPY, LINEAR, Ones, Patches

ALONE = False
STEPS, GUIDANCE = 28, 7.0  # of the official pipeline
SIZES_OF = {  # size -> layers, heads, places a side of the table, dual layers, norm
  "medium": (24, 24, 192, 0, None),
  "3.5-large": (38, 38, 192, 0, "rms_norm"),
  "3.5-medium": (24, 24, 384, 13, "rms_norm"),
}


def KEYS(config):  # noqa: N802 (a table, which depends on how many blocks are dual)
  """All keys for a config of ours."""
  d, block = config.dit, "transformer_blocks"
  channels = codecs.sizes(config.data.codec).channels
  enter, own = (Patches(channels), COPY), ("own", "to_{}", "norm_{}")
  dual = f"{block}.{{i}}"
  return (
    *_dit.around("pos_embed.proj", "proj_out", enter, (LINEAR, COPY)),
    Key("dit/positions", "<dit>pos_embed.pos_embed", Ones(1)),
    *_dit.double("dual_blocks", dual),
    *_dit.mixed("dual_blocks/own", f"{dual}.attn2", *own[1:]),
    *_dit.both("dual_blocks/own_out", f"{dual}.attn2.to_out.0", _dit.PLAIN),
    *_dit.double("blocks", f"{block}.{{i+{d.dual_depth}}}"),
    *_dit.double("last_block", f"{block}.{d.depth - 1}", last=True),
  )


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  t = published.part("transformer.")
  channels, layers = t.get("in_channels", 16), t["num_layers"]
  t.only("patch_size", 2)
  t.only("out_channels", channels)
  dual = tuple(t.get("dual_attention_layers", ()) or ())
  t.only("dual_attention_layers", tuple(range(len(dual))), default=())
  c = _dit.get_config(published, channels)
  _dit.sized(c, t)
  t.only("caption_projection_dim", c.dit.width)
  side = t["sample_size"]
  c.dit.update(
    depth=layers, dual_depth=len(dual), single_depth=0, positions="table",
    position_grid=t.get("pos_embed_max_size", 96), last_queries=True,
    qk_norm=t.only("qk_norm", None, "rms_norm") is not None,
  )  # fmt: skip
  c.data.image_size = side * codecs.sizes(c.data.codec).stride
  c.sample.update(steps=STEPS, guidance=GUIDANCE, schedule_last=_last(c.sample))
  return c


def _last(sample) -> float:
  """The least time of the scheduler, a thousandth: shifted, where it shifts."""
  amount = 1.0 if sample.schedule_patches else sample.schedule_shift
  return amount / (1000 + amount - 1)


def to_published(config) -> dict:
  """Fields of the files of a pipeline that are about these parts."""
  d, stride = config.dit, codecs.sizes(config.data.codec).stride
  transformer = {
    "_class_name": "SD3Transformer2DModel", "attention_head_dim": d.width // d.heads,
    "caption_projection_dim": d.width, "in_channels": config.codec.channels,
    "joint_attention_dim": d.condition_width, "num_attention_heads": d.heads,
    "num_layers": d.depth, "out_channels": config.codec.channels, "patch_size": 2,
    "pooled_projection_dim": d.pooled_width,
    "pos_embed_max_size": d.position_grid,
    "sample_size": config.data.image_size // stride,
    "dual_attention_layers": list(range(d.dual_depth)),
    "qk_norm": "rms_norm" if d.qk_norm else None,
  }  # fmt: skip
  return {"transformer": transformer, **_dit.to_published(config)}


def _size(layers: int, heads: int, places: int, dual: int, norm) -> dict:
  transformer = {
    "_class_name": "SD3Transformer2DModel", "attention_head_dim": 64,
    "caption_projection_dim": 64 * heads, "in_channels": 16,
    "joint_attention_dim": 4096, "num_attention_heads": heads, "num_layers": layers,
    "out_channels": 16, "patch_size": 2, "pooled_projection_dim": 2048,
    "pos_embed_max_size": places, "sample_size": 128,
    "dual_attention_layers": list(range(dual)), "qk_norm": norm,
  }  # fmt: skip
  scheduler = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
    "shift": 3.0,
  }  # fmt: skip
  vae = autoencoder_kl.PUBLISHED["sd3"]
  return {"transformer": transformer, "scheduler": scheduler, "vae": vae}


PUBLISHED = {name: _size(*size) for name, size in SIZES_OF.items()}
# Without the autoencoder; the second number is the table of places.
PARAMETERS = {
  "medium": 2_028_328_000 + 56_623_104, "3.5-large": 8_056_627_520 + 89_653_248,
  "3.5-medium": 2_243_171_520 + 226_492_416,
}  # fmt: skip
