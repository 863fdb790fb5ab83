"""The image tokenizer of Emu3: a VQGAN of frames with 32,768 codes, 8 pixels a side.

  unijax import emu3_vq FOLDER --out=runs/emu3_vq

Read are the tokenizer alone in the layout of transformers (Emu3VQVAE) and in the
original one (BAAI/Emu3-VisionTokenizer), and a whole Emu3 of transformers (`vqmodel.`),
whose other weights are left out. Written is that of Emu3VQVAE.

Four frames are one latent, and a picture is four equal ones, of which the first is
drawn; all of the weights over time are there, and clips go through the same module
(`unijax.codecs.frames`). Batch norm over time has the statistics of the files.

Sources: Wang et al. 2024 (Emu3, arXiv 2409.18869), Zheng et al. 2022 (MoVQ, 2209.09002)
for the decoder's norms.
"""

from ml_collections import ConfigDict

from configs.released import _ladder
from configs.released.autoencoder_kl import conv
from configs.released.autoencoder_kl import norm as group_norm
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import CONV_OR_LINEAR, WHOLE, Front
from unijax.interop.told import axis, count, counts, sizes

OURS_ONLY = _ladder.OURS_ONLY
PREFIXES = {"vae": ("", "vqmodel.")}
DROPS = tuple(Drop(f"{name}.*") for name in ("text_model", "model", "lm_head"))
GUIDED = {"encoder": False, "decoder": True}  # whether latents move the norms
HALVES = (("encoder", "down"), ("decoder", "up"))


def norm(ours, *theirs, guided):
  """A norm, and the maps of latents that scale and move what comes out of it."""
  if not guided:
    return group_norm(ours, *theirs)
  return (
    *group_norm(ours, *(f"{n}.norm_layer" for n in theirs)),
    *conv(f"{ours}/times", *(f"{n}.conv_y" for n in theirs)),
    *conv(f"{ours}/plus", *(f"{n}.conv_b" for n in theirs)),
  )


def residual(ours, *theirs, guided):
  """A residual block."""
  keys = conv(f"{ours}/skip", *(f"{n}.nin_shortcut" for n in theirs))
  for part in ("1", "2"):
    keys += norm(
      f"{ours}/norm{part}", *(f"{n}.norm{part}" for n in theirs), guided=guided
    )
    keys += conv(f"{ours}/conv{part}", *(f"{n}.conv{part}" for n in theirs))
  return keys


def attention(ours, new, new_norm, old, guided):
  """Attention among all places: matrices in one layout, convolutions in the other."""
  keys = norm(f"{ours}/norm", new_norm, f"{old}.norm", guided=guided)
  for name, short, first in (
    ("query", "q_proj", "q"), ("key", "k_proj", "k"), ("value", "v_proj", "v"),
    ("out", "out_proj", "proj_out"),
  ):  # fmt: skip
    keys += conv(
      f"{ours}/{name}", f"{new}.{short}", f"{old}.{first}", op=CONV_OR_LINEAR
    )
  return keys


def over_time(half):
  """What stands between frames and latents."""
  stack = f"{half}.time_res_stack.{{i}}"
  keys = ()
  for part in ("1", "2"):
    ours, theirs = (
      f"codec/{half}/time/block{{i}}/norm{part}",
      f"<vae>{stack}.norm{part}",
    )
    keys += (
      Key(f"{ours}/scale", f"{theirs}.weight"),
      Key(f"{ours}/bias", f"{theirs}.bias"),
      Key(f"{ours}/mean", f"{theirs}.running_mean"),
      Key(f"{ours}/variance", f"{theirs}.running_var"),
      Key(f"{ours}/batches", f"{theirs}.num_batches_tracked", WHOLE),
    )
    keys += conv(f"{half}/time/block{{i}}/conv{part}", f"{stack}.conv{part}.conv")
  return keys


def half(name, side):
  """The encoder or the decoder, but for its last convolution."""
  guided = GUIDED[name]
  new, old = f"{name}.{side}_block.{side}.{{i}}", f"{name}.{side}.{{i}}"
  middle, mid = f"{name}.middle_block", f"{name}.mid"
  keys = (
    *conv(f"{name}/enter", f"{name}.conv_in"),
    *residual(
      f"{name}/{side}{{i}}_{{b}}", f"{new}.block.{{b}}", f"{old}.block.{{b}}",
      guided=guided,
    ),
    *attention(
      f"{name}/attend_{side}{{i}}_{{b}}", f"{new}.attn.{{b}}",
      f"{new}.attn_norms.{{b}}", f"{old}.attn.{{b}}", guided,
    ),
    *attention(
      f"{name}/middle/attention", f"{middle}.attn_1", f"{middle}.attn_norm",
      f"{mid}.attn_1", guided,
    ),
    *norm(f"{name}/norm", f"{name}.norm_out", guided=guided),
    *over_time(name),
  )  # fmt: skip
  for number in (1, 2):
    keys += residual(
      f"{name}/middle/block{number}", f"{middle}.block_{number}",
      f"{mid}.block_{number}", guided=guided,
    )  # fmt: skip
  return keys


KEYS = (
  *(key for x in HALVES for key in half(*x)),
  *conv(
    "encoder/halve{j}", "encoder.down_block.down.{j}.downsample.conv",
    "encoder.down.{j}.downsample.conv",
  ),
  *conv(
    "decoder/double_{j}", "decoder.up_block.up.{j+1}.upsample.conv",
    "decoder.up.{j+1}.upsample.conv",
  ),
  *conv("encoder/time/halve{j}", "encoder.time_conv.{j}.conv.conv"),
  *conv("decoder/time/double{j}", "decoder.time_conv.{j}.conv.conv"),
  *conv("encoder/leave", "encoder.conv_out"),
  *conv("decoder/last", "decoder.conv_out"),
  *conv("encoder/project", "quant_conv.conv"),
  *conv("decoder/project", "post_quant_conv.conv"),
  Key(
    "codec/bottleneck/quantizer/codebook", "<vae>quantize.embedding.weight", Front(1)
  ),
)  # fmt: skip
DOWN = ("<vae>encoder.down_block.down.{i}.block.", "<vae>encoder.down.{i}.block.")
SIZES = {
  "embed_dim": axis("<vae>quantize.embedding.weight", 1),
  "codebook_size": axis("<vae>quantize.embedding.weight", 0),
  "latent_channels": axis("<vae>post_quant_conv.conv.weight", 0),
  "in_channels": axis("<vae>encoder.conv_in.weight", 1),
  "out_channels": axis("<vae>decoder.conv_out.weight", 0),
  "widths": sizes(tuple(f"{n}0.conv1.weight" for n in DOWN), 0),
  "blocks": counts(tuple(f"{n}{{b}}.conv1.weight" for n in DOWN)),
  "time_halvings": count("<vae>encoder.time_conv.{i}.conv.conv.weight"),
}
# Fields by their names in the original layout.
ORIGINAL = {
  "base_channels": "ch", "channel_multiplier": "ch_mult", "double_latent": "double_z",
  "latent_channels": "z_channels",
}  # fmt: skip
SIZE = 720  # pixels a side of what is drawn, if nothing else is said


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  own = {new: published[old] for new, old in ORIGINAL.items() if old in published}
  told = _ladder.Told(published.given(**own))
  widths, blocks = told.levels(256, (1, 2, 2, 4))
  for name, value in (
    ("in_channels", 3), ("out_channels", 3), ("double_latent", False),
    ("num_attention_heads", 1), ("hidden_size", widths[-1]),
  ):  # fmt: skip
    told.only(name, value)
  vector = told.get("embed_dim", 4)
  told.only("latent_channels", vector)
  stride = told.get("temporal_downsample_factor", 4)
  published.only("time_halvings", stride.bit_length() - 1)
  return _ladder.config(
    published.get("image_size", SIZE),
    bottleneck="vq", cosine=False, codebook_update="gradient", revive_below=0.0,
    width=widths[0], multipliers=_ladder.multipliers("channel_multiplier", widths),
    blocks=blocks, channels=vector, project=True, time_stride=stride,
    codebook=told.get("codebook_size", 32_768), decoder_norm="spatial",
    attention_levels=tuple(told.get("attn_resolutions", (3,)) or ()),
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json of transformers for a codec of ours."""
  codec = config.codec
  fields = _ladder.published(config)
  return {
    "architectures": ["Emu3VQVAE"], "model_type": "emu3_vqgan", **fields,
    "codebook_size": fields.pop("num_embeddings"), "out_channels": 3,
    "temporal_downsample_factor": codec.time_stride, "num_attention_heads": 1,
    "attn_resolutions": list(codec.attention_levels),
    "hidden_size": codec.width * codec.multipliers[-1],
    "image_size": config.data.image_size,
  }  # fmt: skip


PUBLISHED = {
  "32768": {
    "base_channels": 256, "channel_multiplier": [1, 2, 2, 4], "embed_dim": 4,
    "latent_channels": 4, "codebook_size": 32_768, "num_res_blocks": 2,
    "in_channels": 3, "out_channels": 3, "double_latent": False,
    "temporal_downsample_factor": 4, "attn_resolutions": [3], "hidden_size": 1024,
    "num_attention_heads": 1,
  }
}  # fmt: skip
PARAMETERS = {"32768": 270_740_287 + 72}  # of which 72 are kept statistics
