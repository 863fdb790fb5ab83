"""The image tokenizer of Chameleon: a VQGAN of 8,192 codes, 32 x 32 a picture.

  unijax import chameleon_vq vqgan.safetensors --size=8192 --out=runs/chameleon_vq

Read is the whole VQGAN in the layout of taming-transformers, which the original release
has as vqgan.ckpt: a pickle, to be converted by `unijax ckpt convert` where torch is. A
Chameleon in the layout of transformers (`model.vqmodel.`) has the encoder, the codebook
and the map behind it alone, as ChameleonVQVAE does: such a codec makes codes of
pictures and draws none (`codec.draws`). Of a whole one transformers loads these, and
leaves the rest.

Sources: Chameleon Team 2024 (arXiv 2405.09818), Gafni et al. 2022 (2203.13131), Esser
et al. 2021 (2012.09841).
"""

from ml_collections import ConfigDict

from configs.released import _ladder
from configs.released.autoencoder_kl import conv
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import Front
from unijax.interop.told import axis, counts, present, sizes

OURS_ONLY = _ladder.OURS_ONLY
PREFIXES = {"vae": ("", "vqmodel.", "model.vqmodel.")}
DROPS = tuple(
  Drop(name)
  for name in (
    "loss.*",  # the discriminator and the perceptual network
    "model.layers.*", "model.embed_tokens.weight", "model.norm.weight",
    "lm_head.weight",
  )
)  # fmt: skip
KEYS = (
  *_ladder.keys(_ladder.LDM),
  *conv("encoder/project", "quant_conv"),
  *conv("decoder/project", "post_quant_conv"),
  Key(
    "codec/bottleneck/quantizer/codebook", "<vae>quantize.embedding.weight", Front(1)
  ),
)
SIZES = {
  "embed_dim": axis("<vae>quantize.embedding.weight", 1),
  "num_embeddings": axis("<vae>quantize.embedding.weight", 0),
  "latent_channels": axis("<vae>quant_conv.weight", 1),
  "in_channels": axis("<vae>encoder.conv_in.weight", 1),
  "widths": sizes("<vae>encoder.down.{i}.block.0.conv1.weight", 0),
  "blocks": counts("<vae>encoder.down.{i}.block.{b}.conv1.weight"),
  "attention": present("<vae>encoder.mid.attn_1.norm.weight"),
  "draws": present("<vae>decoder.conv_in.weight"),
}


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  told = _ladder.Told(published)
  widths, blocks = told.levels()
  told.only("in_channels", 3)
  told.only("double_latent", False)
  told.only("attn_resolutions", None, ())
  attention = told.get("attn_type", "vanilla") == "vanilla"
  published.only("attention", attention)
  vector, inner = told.get("embed_dim", 256), told.get("latent_channels", 256)
  return _ladder.config(
    told.get("resolution", 512),
    bottleneck="vq", cosine=False, codebook_update="gradient", revive_below=0.0,
    width=widths[0], multipliers=_ladder.multipliers("channel_multiplier", widths),
    blocks=blocks, attention=attention,
    channels=vector, codebook=told.get("num_embeddings", 8192),
    project=True, project_width=0 if inner == vector else inner,
    draws=published.get("draws", True),
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json of transformers for a codec of ours."""
  return {
    "architectures": ["ChameleonVQVAE"],
    "model_type": "chameleon_vqgan",
    "attn_resolutions": None,
    "attn_type": "vanilla" if config.codec.attention else None,
    "resolution": config.data.image_size,
    **_ladder.published(config),
  }


PUBLISHED = {
  "8192": {
    "base_channels": 128, "channel_multiplier": [1, 1, 2, 2, 4], "embed_dim": 256,
    "latent_channels": 256, "num_embeddings": 8192, "num_res_blocks": 2,
    "resolution": 512, "in_channels": 3, "double_latent": False,
    "attn_resolutions": None, "attn_type": "vanilla",
  }
}  # fmt: skip
PARAMETERS = {"8192": 68_718_467}  # of which 29,423,616 are in a Chameleon
