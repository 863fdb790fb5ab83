"""The image tokenizer of Show-o: an encoder and a decoder around 13 signs.

  unijax import magvit_v2 FOLDER --out=runs/magvit_v2

Read and written is the layout of showlab/magvitv2, whose config.json says nothing: all
sizes are those of the weights. Its two constant arrays, the signs of every code and the
values of bits, are checked and left out. Codes are numbers whose highest bit is the
first channel, 1 where it is above zero.

Sources: Yu et al. 2024 (MAGVIT-v2, arXiv 2310.05737), Xie et al. 2024 (Show-o,
2408.12528).
"""

import numpy as np
from ml_collections import ConfigDict

from configs.released import _ladder
from configs.released.autoencoder_kl import conv
from unijax.codecs.autoencoder import blocks_of
from unijax.interop.keymap import Drop
from unijax.interop.told import axis, counts, present, sizes

OURS_ONLY = _ladder.OURS_ONLY
PREFIXES = {"vae": ("",)}


def powers(shape):
  """2^(n - 1) .. 1."""
  return 2 ** np.arange(shape[0] - 1, -1, -1)


def signs(shape):
  """Bits of 0 .. 2^n - 1, highest first, as -1 and 1."""
  bits = np.arange(shape[0])[:, None] // powers(shape[1:]) % 2
  return (2 * bits - 1).astype(np.float32)


DROPS = (
  Drop("<vae>quantize.embedding", signs),
  Drop("<vae>quantize.power_vals", powers),
)
KEYS = (
  *_ladder.keys(_ladder.LDM),
  *conv("encoder/project", "encoder.quant_conv"),
  *conv("decoder/project", "decoder.post_quant_conv"),
)
SIZES = {
  "bits": axis("<vae>encoder.quant_conv.weight", 0),
  "inner": axis("<vae>encoder.conv_out.weight", 0),
  "in_channels": axis("<vae>encoder.conv_in.weight", 1),
  "out_channels": axis("<vae>decoder.conv_out.weight", 0),
  "widths": sizes("<vae>encoder.down.{i}.block.0.conv1.weight", 0),
  "decoder_widths": sizes("<vae>decoder.up.{i}.block.0.conv1.weight", 0),
  "blocks": counts("<vae>encoder.down.{i}.block.{b}.conv1.weight"),
  "decoder_blocks": counts("<vae>decoder.up.{i}.block.{b}.conv1.weight"),
  "attention": present("<vae>encoder.mid.attn_1.norm.weight"),
}


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  widths = published["widths"]
  published.only("in_channels", 3)
  published.only("out_channels", 3)
  published.only("inner", published["bits"])
  first, blocks = widths[0], published["blocks"]
  multipliers = _ladder.multipliers("widths", widths)
  above = _ladder.multipliers("decoder_widths", (first, *published["decoder_widths"]))
  up = published["decoder_blocks"]
  return _ladder.config(
    published.get("resolution", 256),
    bottleneck="lfq", channels=published["bits"], project=True, width=first,
    multipliers=multipliers,
    decoder_multipliers=() if above[1:] == multipliers else above[1:],
    blocks=blocks[:1] if len(set(blocks)) == 1 else blocks,
    decoder_blocks=() if up == tuple(n + 1 for n in blocks) else up,
    attention=published.get("attention", True),
  )  # fmt: skip


def to_published(config) -> dict:
  """A config.json that names the class and says what the weights say."""
  codec = config.codec
  down, up = blocks_of(codec)
  return {
    "_class_name": "MAGViTv2",
    "attention": codec.attention,
    "bits": codec.channels,
    "blocks": list(down),
    "decoder_blocks": list(up),
    "decoder_widths": [
      codec.width * m for m in codec.decoder_multipliers or codec.multipliers
    ],
    "resolution": config.data.image_size,
    "widths": [codec.width * m for m in codec.multipliers],
  }


PUBLISHED = {
  "8192": {
    "bits": 13, "resolution": 256, "attention": True,
    "widths": [128, 256, 256, 512, 512], "blocks": [4, 3, 4, 3, 4],
    "decoder_widths": [128, 128, 256, 256, 512], "decoder_blocks": [4, 4, 3, 4, 3],
  }
}  # fmt: skip
PARAMETERS = {"8192": 95_387_004}
