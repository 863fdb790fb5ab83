"""The image tokenizer of Janus and Janus-Pro: VQ-16 of LlamaGen (Sun et al. 2024).

  unijax import janus_vq FOLDER --out=runs/janus_vq
  unijax import janus_vq gen_vision_model.safetensors --size=16384 --out=runs/janus_vq

Read are the tokenizer alone (JanusVQVAE), a whole Janus or Janus-Pro in the layout of
transformers (`model.vqmodel.`), and one in the original layout (`gen_vision_model.`),
whose other weights are left out. Written is that of JanusVQVAE.

Vectors and entries have length 1 when they are compared, as in the official code
(LlamaGen, tokenizer_image/vq_model.py; Janus, models/vq_model.py). `JanusVQVAE.encode`
of transformers 5.23 leaves that out, and finds other codes for the same weights; its
`decode` does not.

Sources: Sun et al. 2024 (arXiv 2406.06525), Wu et al. 2024 (2410.13848), Chen et al.
2025 (2501.17811).
"""

from ml_collections import ConfigDict

from configs.released import _ladder
from configs.released.autoencoder_kl import conv
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import Front
from unijax.interop.told import axis, counts, sizes

OURS_ONLY = _ladder.OURS_ONLY
PREFIXES = {"vae": ("", "vqmodel.", "model.vqmodel.", "gen_vision_model.")}
DROPS = tuple(
  Drop(name)
  for name in (
    "<vae>quantize.codebook_used",  # of the official training's own statistics
    "model.language_model.*", "model.vision_model.*", "model.aligner.*",
    "model.generation_*", "lm_head.weight",
    "language_model.*", "vision_model.*", "aligner.*", "gen_aligner.*", "gen_head.*",
    "gen_embed.*",
  )
)  # fmt: skip
TRANSFORMERS = _ladder.Layout(up="decoder.up.{~i}", double="decoder.up.{~j}")
ORIGINAL = _ladder.Layout(
  down="encoder.conv_blocks.{i}", up="decoder.conv_blocks.{~i}",
  halve="encoder.conv_blocks.{j}", double="decoder.conv_blocks.{~j}", block="res.{b}",
  middle=("0", "1", "2"),
)  # fmt: skip
KEYS = (
  *_ladder.keys(TRANSFORMERS, ORIGINAL),
  *conv("encoder/project", "quant_conv"),
  *conv("decoder/project", "post_quant_conv"),
  Key(
    "codec/bottleneck/quantizer/codebook", "<vae>quantize.embedding.weight", Front(1)
  ),
)
DOWN = ("<vae>encoder.down.{i}.block.", "<vae>encoder.conv_blocks.{i}.res.")
SIZES = {
  "embed_dim": axis("<vae>quantize.embedding.weight", 1),
  "num_embeddings": axis("<vae>quantize.embedding.weight", 0),
  "latent_channels": axis("<vae>quant_conv.weight", 1),
  "in_channels": axis("<vae>encoder.conv_in.weight", 1),
  "out_channels": axis("<vae>decoder.conv_out.weight", 0),
  "widths": sizes(tuple(f"{n}0.conv1.weight" for n in DOWN), 0),
  "blocks": counts(tuple(f"{n}{{b}}.conv1.weight" for n in DOWN)),
}


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  told = _ladder.Told(published)
  widths, blocks = told.levels()
  told.only("in_channels", 3)
  told.only("out_channels", 3)
  told.only("double_latent", False)
  patches = told.get("num_patches", 32)
  if "gen_vision_config.cls" in published:
    published.only("gen_vision_config.cls", "VQ-16")
    patches = 24
  vector, inner = told.get("embed_dim", 8), told.get("latent_channels", 256)
  return _ladder.config(
    patches * 2 ** (len(widths) - 1),
    bottleneck="vq", cosine=True, codebook_update="gradient", revive_below=0.0,
    width=widths[0], multipliers=_ladder.multipliers("channel_multiplier", widths),
    blocks=blocks, attention_levels=(len(widths) - 1,),
    channels=vector, codebook=told.get("num_embeddings", 16384),
    project=True, project_width=0 if inner == vector else inner,
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json of transformers for a codec of ours."""
  halvings = len(config.codec.multipliers) - 1
  return {
    "architectures": ["JanusVQVAE"],
    "model_type": "janus_vqgan",
    "num_patches": config.data.image_size // 2**halvings,
    "out_channels": 3,
    **_ladder.published(config),
  }


PUBLISHED = {
  "16384": {
    "base_channels": 128, "channel_multiplier": [1, 1, 2, 2, 4], "embed_dim": 8,
    "latent_channels": 256, "num_embeddings": 16384, "num_patches": 24,
    "num_res_blocks": 2, "in_channels": 3, "out_channels": 3, "double_latent": False,
  }
}  # fmt: skip
PARAMETERS = {"16384": 71_883_403}
