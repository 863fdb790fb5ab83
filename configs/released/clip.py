"""CLIP (Radford et al. 2021): both towers, or that of pictures alone.

  unijax import clip FOLDER --out=runs/clip

Read are folders of transformers: CLIPModel, and CLIPVisionModel (with and without
`vision_model.` before its names), also those of OpenCLIP and MetaCLIP in that layout.
`RUN/encoder` gives features of the last block, without the last norm, as the library's
last_hidden_state has them; vision.skip_blocks = 1 are those that LLaVA reads.
"""

import numpy as np
from ml_collections import ConfigDict

from configs.released import _towers
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import LINEAR, Front, Patches
from unijax.interop.told import axis, count

PREFIXES = {
  "vision": ("vision_model.", "", "vision_tower.vision_model.", "vision_tower."),
  "text": ("text_model.",),
}


def positions(shape):
  """0, 1, .. as old files have them."""
  return np.arange(shape[-1]).reshape(shape)


DROPS = (
  Drop("<vision>embeddings.position_ids", positions),
  Drop("<text>embeddings.position_ids", positions),
)
TOWER = (
  Key("vision/class", "<vision>embeddings.class_embedding", Front(1)),
  Key("vision/position", "<vision>embeddings.position_embedding.weight"),
  Key("vision/patch/kernel", "<vision>embeddings.patch_embedding.weight", Patches()),
  *_towers.norm("vision/embed_norm", "<vision>pre_layrnorm"),
  *_towers.split_blocks("vision", "<vision>"),
  *_towers.norm("vision/final_norm", "<vision>post_layernorm"),
)
KEYS = (
  *TOWER,
  *_towers.text(),
  Key("image_projection/kernel", "visual_projection.weight", LINEAR),
  Key("text_projection/kernel", "text_projection.weight", LINEAR),
  Key("log_scale", "logit_scale"),
)
SIZES = {
  "projection_dim": axis("visual_projection.weight", 0),
  "text_config.vocab_size": axis("<text>embeddings.token_embedding.weight", 0),
  "text_config.num_hidden_layers": count("<text>encoder.layers.{i}.layer_norm1.weight"),
}


def vision(c, published, prefix: str) -> None:
  """Fills in the tower of pictures."""

  def read(name, default):
    return published.get(f"{prefix}{name}", default)

  c.vision.update(
    **_towers.shape(published, prefix, 12, 768, 12, 3072),
    pool="class", patch_bias=False, embed_norm=True, features_norm=False, crop=True,
    patch_size=read("patch_size", 32), norm_eps=read("layer_norm_eps", 1e-5),
    mlp=_towers.activation(published, f"{prefix}hidden_act", "quick_gelu"),
  )  # fmt: skip
  published.only(f"{prefix}num_channels", 3)


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  prefix, both = _towers.one_sided(published, "clip")
  size = published.get(f"{prefix}image_size", 224)
  c = _towers.config(size, _towers.PHOTOS, published)
  vision(c, published, prefix)
  if not both:
    return _towers.alone(c)

  def read(name, default):
    return published.get(f"text_config.{name}", default)

  vocab, end = read("vocab_size", 49408), read("eos_token_id", 49407)
  # Old files name no token that is right: the two last ids are meant.
  begin = vocab - 2 if end == 2 else read("bos_token_id", 49406)
  end = vocab - 1 if end == 2 else end
  c.text.update(
    **_towers.shape(published, "text_config.", 8, 512, 12, 2048),
    causal=True, pool="eos", vocab=vocab, length=read("max_position_embeddings", 77),
    norm_eps=read("layer_norm_eps", 1e-5),
    mlp=_towers.activation(published, "text_config.hidden_act", "quick_gelu"),
  )  # fmt: skip
  _towers.marks(c, begin, end, end)
  c.align.update(width=published.get("projection_dim", 512), objective="softmax")
  return c


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v, t = config.vision, config.text
  marks = _towers.marked(config)
  prepared = _towers.preprocessor(config, "CLIPImageProcessor")
  pictures = {
    "model_type": "clip_vision_model", **_towers.plain(v), "patch_size": v.patch_size,
    "image_size": config.data.image_size, "num_channels": 3,
    "projection_dim": config.align.width,
  }  # fmt: skip
  if config.align.objective == "none":
    return {"architectures": ["CLIPVisionModel"], **pictures, "preprocessor": prepared}
  words = {
    "model_type": "clip_text_model", **_towers.plain(t), "vocab_size": t.vocab,
    "max_position_embeddings": t.length, "bos_token_id": marks["bos"],
    "eos_token_id": marks["eos"], "pad_token_id": marks["pad"],
    "projection_dim": config.align.width,
  }  # fmt: skip
  return {
    "architectures": ["CLIPModel"], "model_type": "clip",
    "projection_dim": config.align.width, "vision_config": pictures,
    "text_config": words, "preprocessor": prepared,
  }  # fmt: skip


def _size(image, patch, depth, width, heads, text, text_heads):
  return {
    "model_type": "clip", "projection_dim": text,
    "vision_config": {
      "image_size": image, "patch_size": patch, "num_hidden_layers": depth,
      "hidden_size": width, "num_attention_heads": heads,
      "intermediate_size": 4 * width,
    },
    "text_config": {
      "hidden_size": text, "num_attention_heads": text_heads, "eos_token_id": 2,
      "intermediate_size": 4 * text,
    },
  }  # fmt: skip


PUBLISHED = {
  "B-32": _size(224, 32, 12, 768, 12, 512, 8),
  "B-16": _size(224, 16, 12, 768, 12, 512, 8),
  "L-14": _size(224, 14, 24, 1024, 16, 768, 12),
  "L-14-336": _size(336, 14, 24, 1024, 16, 768, 12),
}
PARAMETERS = {
  "B-32": 151_277_313, "B-16": 149_620_737, "L-14": 427_616_513,
  "L-14-336": 427_944_193,
}  # fmt: skip
