"""The autoencoder of Wan2.1: pictures and clips, 16 channels, 8 pixels a side.

  unijax import wan_vae FOLDER --out=runs/wan_vae
  unijax import wan_vae Wan2.1_VAE.safetensors --size=2.1 --out=runs/wan_vae

Read are the layout of diffusers (AutoencoderKLWan) and the original one
(Wan2.1_VAE.pth, after `unijax ckpt convert`). Written is that of diffusers.

3x3 convolutions see three frames, and two of the three halvings of places halve time,
too: 1 + 4k frames are 1 + k latents, and a picture is one frame, of which no weights
act but those of the kernels' last frames. Both files encode and decode clips in pieces
with what each convolution remembers of the piece before; `unijax.codecs.frames` says
what that is all at once. Latents are shifted and scaled channel by channel.

Source: Wan Team 2025 (arXiv 2503.20314), section 4.1.
"""

import itertools

from ml_collections import ConfigDict

from configs.codecs import common
from configs.released.autoencoder_kl import conv
from unijax.codecs.autoencoder import blocks_of
from unijax.interop.keymap import Key
from unijax.interop.ops import CONV, Ones, Part
from unijax.interop.told import axis

FILE = "diffusion_pytorch_model.safetensors"
OURS_ONLY = ("adversary/*", "balance/*")
PREFIXES = {"vae": ("", "vae.")}
ONE_FRAME = Ones(1, CONV, behind=True)  # 1x1 kernels that see one frame


def scale(ours, *theirs, axes=3):
  """The scale of a norm, which has no bias; `axes` of one element follow in files."""
  names = tuple(f"<vae>{name}.gamma" for name in theirs)
  return (Key(f"codec/{ours}/norm/scale", names, Ones(axes, behind=True)),)


def residual(ours, new, old):
  """A residual block."""
  return (
    *scale(f"{ours}/norm1", f"{new}.norm1", f"{old}.residual.0"),
    *conv(f"{ours}/conv1", f"{new}.conv1", f"{old}.residual.2"),
    *scale(f"{ours}/norm2", f"{new}.norm2", f"{old}.residual.3"),
    *conv(f"{ours}/conv2", f"{new}.conv2", f"{old}.residual.6"),
    *conv(f"{ours}/skip", f"{new}.conv_shortcut", f"{old}.shortcut", op=ONE_FRAME),
  )


def middle(half):
  """The smallest level of a half: block, attention, block."""
  ours, new, old = f"{half}/middle", f"{half}.mid_block", f"{half}.middle"
  attention = (f"{new}.attentions.0", f"{old}.1")
  keys = scale(f"{ours}/attention/norm", *(f"{n}.norm" for n in attention), axes=2)
  names = tuple(f"<vae>{n}.to_qkv" for n in attention)
  for number, name in enumerate(("query", "key", "value")):
    path = f"codec/{ours}/attention/{name}/conv"
    keys += (
      Key(f"{path}/kernel", tuple(f"{n}.weight" for n in names), Part(number, CONV)),
      Key(f"{path}/bias", tuple(f"{n}.bias" for n in names), Part(number)),
    )
  return (
    *keys,
    *conv(f"{ours}/attention/out", *(f"{n}.proj" for n in attention)),
    *residual(f"{ours}/block1", f"{new}.resnets.0", f"{old}.0"),
    *residual(f"{ours}/block2", f"{new}.resnets.1", f"{old}.2"),
  )


def ends(half, first, last):
  """What a half begins and ends with."""
  return (
    *conv(f"{half}/{first}", f"{half}.conv_in", f"{half}.conv1"),
    *middle(half),
    *scale(f"{half}/norm", f"{half}.norm_out", f"{half}.head.0"),
    *conv(f"{half}/{last}", f"{half}.conv_out", f"{half}.head.2"),
  )


def KEYS(config):
  """All keys; layers of all levels are numbered through, but for the new decoder's."""
  down, up = blocks_of(config.codec)
  keys = (
    *ends("encoder", "enter", "leave"),
    *ends("decoder", "enter", "last"),
    *conv("encoder/project", "quant_conv", "conv1", op=ONE_FRAME),
    *conv("decoder/project", "post_quant_conv", "conv2", op=ONE_FRAME),
  )
  layer = itertools.count()
  for level, blocks in enumerate(down):
    for block in range(blocks):
      number = next(layer)
      keys += residual(
        f"encoder/down{level}_{block}", f"encoder.down_blocks.{number}",
        f"encoder.downsamples.{number}",
      )  # fmt: skip
    number = next(layer)
    names = f"encoder.down_blocks.{number}", f"encoder.downsamples.{number}"
    keys += conv(f"encoder/halve{level}", *(f"{n}.resample.1" for n in names))
    keys += conv(f"encoder/halve_time{level}/mix", *(f"{n}.time_conv" for n in names))
  layer = itertools.count()
  for place, level in enumerate(reversed(range(len(up)))):
    new = f"decoder.up_blocks.{place}"
    for block in range(up[level]):
      keys += residual(
        f"decoder/up{level}_{block}", f"{new}.resnets.{block}",
        f"decoder.upsamples.{next(layer)}",
      )  # fmt: skip
    if not level:
      break
    names, at = (f"{new}.upsamplers.0", f"decoder.upsamples.{next(layer)}"), level - 1
    keys += conv(f"decoder/double_{at}", *(f"{n}.resample.1" for n in names))
    keys += conv(f"decoder/double_time{at}/mix", *(f"{n}.time_conv" for n in names))
  return keys


def _either(half, new, old):
  return f"<vae>{half}.{new}.weight", f"<vae>{half}.{old}.weight"


SIZES = {
  "base_dim": axis(_either("encoder", "conv_in", "conv1"), 0),
  "in_channels": axis(_either("encoder", "conv_in", "conv1"), 1),
  "z_dim": axis(_either("decoder", "conv_in", "conv1"), 1),
  "out_channels": axis(_either("decoder", "conv_out", "head.2"), 0),
}
SIZE = 256  # pixels a side of training pictures, if nothing else is said


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published = published.given(**{**PUBLISHED["2.1"], **published})
  width, halves_time = published["base_dim"], published["temperal_downsample"]
  multipliers, channels = published["dim_mult"], published["z_dim"]
  for name, value in (
    ("_class_name", "AutoencoderKLWan"), ("is_residual", False), ("patch_size", None),
    ("in_channels", 3), ("out_channels", 3), ("attn_scales", ()), ("dropout", 0.0),
  ):  # fmt: skip
    published.only(name, value)
  if published.get("decoder_base_dim") is not None:
    published.only("decoder_base_dim", width)
  if len(halves_time) != len(multipliers) - 1:
    wanted = f"one for each of {len(multipliers)} levels but the last"
    published.only("temperal_downsample", wanted)
  for name in ("latents_mean", "latents_std"):
    if len(published[name]) != channels:
      published.only(name, f"{channels} numbers, as z_dim says")
  halvings = tuple(i for i, halved in enumerate(halves_time) if halved)
  c = common.codec_config()
  c.codec.update(
    bottleneck="kl", width=width, multipliers=tuple(multipliers),
    blocks=(published["num_res_blocks"],), channels=channels, attention=True,
    project=True, kernel_frames=3, time_stride=2 ** len(halvings),
    time_halvings=halvings, narrow_doublings=True, encoder_norm="rms",
    decoder_norm="rms", adversary_weight=0.0, shift=_one(published["latents_mean"]),
    scale=_one(tuple(1.0 / x for x in published["latents_std"])),
  )  # fmt: skip
  c.data.image_size = c.data.sources.scenes.options.image_size = SIZE
  return c


def _one(values):
  """One number for all channels, where it is the same."""
  return values[0] if len(set(values)) == 1 else values


def to_published(config) -> dict:
  """The config.json of diffusers for a codec of ours."""
  codec = config.codec
  levels = len(codec.multipliers)

  def by_channel(value):
    return list(value) if isinstance(value, tuple) else [value] * codec.channels

  return {
    "_class_name": "AutoencoderKLWan",
    "attn_scales": [],
    "base_dim": codec.width,
    "dim_mult": list(codec.multipliers),
    "dropout": 0.0,
    "latents_mean": by_channel(codec.shift),
    "latents_std": [_inverse(x) for x in by_channel(codec.scale)],
    "num_res_blocks": codec.blocks[0],
    "scale_factor_spatial": 2 ** (levels - 1),
    "scale_factor_temporal": codec.time_stride,
    "temperal_downsample": [i in codec.time_halvings for i in range(levels - 1)],
    "z_dim": codec.channels,
  }


def _inverse(scale: float) -> float:
  """The shortest number whose inverse this is."""
  written = (float(f"{1.0 / scale:.{digits}g}") for digits in range(1, 18))
  return next((x for x in written if 1.0 / x == scale), 1.0 / scale)


PUBLISHED = {
  "2.1": {
    "base_dim": 96, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2, "z_dim": 16,
    "temperal_downsample": (False, True, True),
    "latents_mean": (
      -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
      0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ),
    "latents_std": (
      2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
      3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ),
  }
}  # fmt: skip
PARAMETERS = {"2.1": 126_892_531}
