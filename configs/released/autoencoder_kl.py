"""Autoencoders of latent diffusion: Stable Diffusion 1, 2, XL and 3, FLUX.1.

  unijax import autoencoder_kl FOLDER --out=runs/vae
  unijax import autoencoder_kl ae.safetensors --size=flux --out=runs/vae

Read are folders of diffusers (AutoencoderKL), also with the attention names of before
its 0.19, and the original layout, alone or in a whole checkpoint of Stable Diffusion,
whose other weights are left out. Written is that of diffusers. Sizes: PUBLISHED.

Sources: Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (2307.01952), Esser
et al. 2024 (2403.03206), and the files of FLUX.1.
"""

from ml_collections import ConfigDict

from configs.codecs import common
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import CONV, CONV_OR_LINEAR
from unijax.interop.told import axis, count, present, sizes

FILE = "diffusion_pytorch_model.safetensors"
OURS_ONLY = ("adversary/*", "balance/*")
PREFIXES = {"vae": ("", "vae.", "first_stage_model.")}
DROPS = tuple(
  Drop(name)
  for name in (
    "model.diffusion_model.*",
    "model_ema.*",
    "cond_stage_model.*",
    "conditioner.*",
    "<vae>loss.*",
    "betas",
    "*alphas_cumprod*",
    "sqrt_recip*_alphas_cumprod",
    "posterior_*",
    "log_one_minus_alphas_cumprod",
    "denoiser.sigmas",
  )  # fmt: skip
)


def conv(ours, *theirs, op=CONV):
  """Kernel and bias of a convolution."""
  names = tuple(f"<vae>{name}" for name in theirs)
  return (
    Key(f"codec/{ours}/conv/kernel", tuple(f"{n}.weight" for n in names), op),
    Key(f"codec/{ours}/conv/bias", tuple(f"{n}.bias" for n in names)),
  )


def norm(ours, *theirs):
  """Scale and bias of a group norm."""
  names = tuple(f"<vae>{name}" for name in theirs)
  return (
    Key(f"codec/{ours}/norm/scale", tuple(f"{n}.weight" for n in names)),
    Key(f"codec/{ours}/norm/bias", tuple(f"{n}.bias" for n in names)),
  )


def residual(ours, new, old):
  """A residual block."""
  return (
    *norm(f"{ours}/norm1", f"{new}.norm1", f"{old}.norm1"),
    *conv(f"{ours}/conv1", f"{new}.conv1", f"{old}.conv1"),
    *norm(f"{ours}/norm2", f"{new}.norm2", f"{old}.norm2"),
    *conv(f"{ours}/conv2", f"{new}.conv2", f"{old}.conv2"),
    *conv(f"{ours}/skip", f"{new}.conv_shortcut", f"{old}.nin_shortcut"),
  )


def middle(half):
  """The smallest level of a half: block, attention, block."""
  ours, new, old = f"{half}/middle", f"{half}.mid_block", f"{half}.mid"
  attention, here = f"{new}.attentions.0", f"{old}.attn_1"
  keys = norm(f"{ours}/attention/norm", f"{attention}.group_norm", f"{here}.norm")
  for name, short, out, before in (
    ("query", "q", "to_q", "query"), ("key", "k", "to_k", "key"),
    ("value", "v", "to_v", "value"), ("out", "proj_out", "to_out.0", "proj_attn"),
  ):  # fmt: skip
    keys += conv(
      f"{ours}/attention/{name}", f"{attention}.{out}", f"{attention}.{before}",
      f"{here}.{short}", op=CONV_OR_LINEAR,
    )  # fmt: skip
  for number in (0, 1):
    keys += residual(
      f"{ours}/block{number + 1}", f"{new}.resnets.{number}",
      f"{old}.block_{number + 1}",
    )  # fmt: skip
  return keys


KEYS = (
  *conv("encoder/enter", "encoder.conv_in"),
  *residual(
    "encoder/down{i}_{b}", "encoder.down_blocks.{i}.resnets.{b}",
    "encoder.down.{i}.block.{b}",
  ),
  *conv(
    "encoder/halve{j}", "encoder.down_blocks.{j}.downsamplers.0.conv",
    "encoder.down.{j}.downsample.conv",
  ),
  *middle("encoder"),
  *norm("encoder/norm", "encoder.conv_norm_out", "encoder.norm_out"),
  *conv("encoder/leave", "encoder.conv_out"),
  *conv("encoder/project", "quant_conv"),
  *conv("decoder/project", "post_quant_conv"),
  *conv("decoder/enter", "decoder.conv_in"),
  *middle("decoder"),
  *residual(
    "decoder/up{i}_{b}", "decoder.up_blocks.{~i}.resnets.{b}",
    "decoder.up.{i}.block.{b}",
  ),
  *conv(
    "decoder/double_{j}", "decoder.up_blocks.{~j}.upsamplers.0.conv",
    "decoder.up.{j+1}.upsample.conv",
  ),
  *norm("decoder/norm", "decoder.conv_norm_out", "decoder.norm_out"),
  *conv("decoder/last", "decoder.conv_out"),
)  # fmt: skip

SIZES = {
  "block_out_channels": sizes(
    (
      "<vae>encoder.down_blocks.{i}.resnets.0.conv1.weight",
      "<vae>encoder.down.{i}.block.0.conv1.weight",
    ),
    0,
  ),
  "layers_per_block": count(
    (
      "<vae>encoder.down_blocks.0.resnets.{b}.conv1.weight",
      "<vae>encoder.down.0.block.{b}.conv1.weight",
    )
  ),
  "latent_channels": axis("<vae>decoder.conv_in.weight", 1),
  "in_channels": axis("<vae>encoder.conv_in.weight", 1),
  "out_channels": axis("<vae>decoder.conv_out.weight", 0),
  "use_quant_conv": present("<vae>quant_conv.weight"),
  "use_post_quant_conv": present("<vae>post_quant_conv.weight"),
  "mid_block_add_attention": present(
    (
      "<vae>encoder.mid_block.attentions.0.group_norm.weight",
      "<vae>encoder.mid.attn_1.norm.weight",
    )
  ),
}  # fmt: skip


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  widths = tuple(published["block_out_channels"])
  levels = len(widths)
  published.only("in_channels", 3)
  published.only("out_channels", 3)
  published.only("act_fn", "silu")
  published.only("latents_mean", None)
  published.only("latents_std", None)
  for name in ("scaling_factor", "shift_factor"):
    if isinstance(published.get(name), tuple):
      published.only(name, "one number for all channels")
  published.only("down_block_types", ("DownEncoderBlock2D",) * levels)
  published.only("up_block_types", ("UpDecoderBlock2D",) * levels)
  project = published.get("use_quant_conv", True)
  published.only("use_post_quant_conv", project)
  if any(w % widths[0] for w in widths):
    published.only("block_out_channels", "whole multiples of the first")
  c = common.codec_config()
  c.codec.update(
    bottleneck="kl",
    width=widths[0],
    multipliers=tuple(w // widths[0] for w in widths),
    blocks=(published.get("layers_per_block", 1),),
    groups=published.get("norm_num_groups", 32),
    attention=published.get("mid_block_add_attention", True),
    channels=published["latent_channels"],
    project=project,
    shift=published.get("shift_factor") or 0.0,
    scale=published["scaling_factor"],
    adversary_weight=0.0,
  )
  size = published.get("sample_size", 256)
  c.data.image_size = c.data.sources.scenes.options.image_size = size
  return c


def to_published(config) -> dict:
  """The config.json of diffusers for a codec of ours."""
  codec = config.codec
  levels = len(codec.multipliers)
  return {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [codec.width * m for m in codec.multipliers],
    "down_block_types": ["DownEncoderBlock2D"] * levels,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": codec.channels,
    "latents_mean": None,
    "latents_std": None,
    "layers_per_block": codec.blocks[0],
    "mid_block_add_attention": codec.attention,
    "norm_num_groups": codec.groups,
    "out_channels": 3,
    "sample_size": config.data.image_size,
    "scaling_factor": codec.scale,
    "shift_factor": codec.shift or None,
    "up_block_types": ["UpDecoderBlock2D"] * levels,
    "use_post_quant_conv": codec.project,
    "use_quant_conv": codec.project,
  }


_COMMON = {
  "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
  "norm_num_groups": 32, "act_fn": "silu",
}  # fmt: skip
_CONVS = {**_COMMON, "latent_channels": 4}
_NO_CONVS = {
  **_COMMON, "latent_channels": 16, "use_quant_conv": False,
  "use_post_quant_conv": False, "sample_size": 1024,
}  # fmt: skip
PUBLISHED = {
  "sd": {**_CONVS, "scaling_factor": 0.18215, "sample_size": 512},
  "sdxl": {**_CONVS, "scaling_factor": 0.13025, "sample_size": 1024},
  "sd3": {**_NO_CONVS, "scaling_factor": 1.5305, "shift_factor": 0.0609},
  "flux": {**_NO_CONVS, "scaling_factor": 0.3611, "shift_factor": 0.1159},
}
PARAMETERS = {
  "sd": 83_653_863, "sdxl": 83_653_863, "sd3": 83_819_683, "flux": 83_819_683,
}  # fmt: skip
