"""LLaVA 1.5 (Liu et al. 2024): CLIP's pictures before a Llama, through two layers.

  unijax import llava FOLDER --out=runs/llava
  unijax sample --workdir=runs/llava --image=cat.png --prompt="What is this?"

Folders of transformers (LlavaForConditionalGeneration over a CLIP tower and a Llama):
features of one layer, without the class token, which stand in the row alone, with
nothing around them. A prompt is "USER: " picture, line end, text, " ASSISTANT:", as
their processor has it; of several pictures each has its line. Between turns the
assistant's end is eos, as in training; the processor's template leaves it out.

Refused: features of several layers, other projectors, other towers and decoders.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.released import _decoder, _parts, _towers, clip, llama
from unijax.interop.keymap import Drop

PREFIXES = {
  "text": ("language_model.model.", "model.language_model."),
  "head": ("language_model.", ""),
  "vision": (
    "vision_tower.vision_model.", "vision_tower.", "model.vision_tower.",
    "model.vision_tower.vision_model.",
  ),
  "whole": ("", "model."),
}  # fmt: skip
KEYS = (
  *_decoder.KEYS,
  *clip.TOWER,
  *_towers.linear("connector/in", "<whole>multi_modal_projector.linear_1"),
  *_towers.linear("connector/out", "<whole>multi_modal_projector.linear_2"),
)
DROPS = (
  *_decoder.DROPS, Drop("<vision>embeddings.position_ids", clip.positions),
)  # fmt: skip
SIZES = _parts.below("text_config.", _decoder.SIZES)
LLAMA = {  # what transformers takes for fields of text_config that are not written
  "num_attention_heads": 32, "max_position_embeddings": 2048, "bos_token_id": 1,
  "eos_token_id": 2,
}  # fmt: skip
IMAGE = 32_000  # id that stands for a picture, where it is not written


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("text_config.model_type", "llama")
  published.only("vision_config.model_type", "clip_vision_model")
  published.only("projector_hidden_act", "gelu")
  published.only("multimodal_projector_bias", True)
  published.only("vision_feature_select_strategy", "default")
  published.only("preprocessor.do_pad", False, None)
  words = _parts.decoder(published, **LLAMA)
  c = llama.get_config(words)
  eyes = clip.get_config(
    published.part("vision_config.", model_type="clip_vision_model")
  )
  _parts.read_through(c, eyes, "bare")
  c.vision.skip_blocks = skipped(published, c.vision.depth)
  image = published.get("image_token_index", published.get("image_token_id", IMAGE))
  ids = dict(c.data.special) | {"boi": image, "eoi": image}
  c.data.special = tuple(ids.items())
  begin = words.get("tokenizer.begin")
  if begin is not None:  # every release is spoken to in this format
    c.data.chat = _decoder.chat(begin, words.get("tokenizer.chat") or "ASSISTANT:")
  return c


def skipped(published, depth: int) -> int:
  """Blocks after the layer whose features are read."""
  layer = published.get("vision_feature_layer", -2)
  known = (*range(-depth, 0), *range(1, depth + 1))
  published.only("vision_feature_layer", *known, default=-2)
  return -1 - layer if layer < 0 else depth - layer


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  alone = dataclasses.replace(config.align, objective="none")
  eyes = clip.to_published(dataclasses.replace(config, align=alone))
  ids = _towers.marked(config)
  return {
    "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
    "dtype": "float32", "image_token_index": ids["boi"], "pad_token_id": ids["pad"],
    "image_seq_length": config.features, "projector_hidden_act": "gelu",
    "multimodal_projector_bias": True, "vision_feature_select_strategy": "default",
    "vision_feature_layer": -1 - config.vision.skip_blocks,
    "tie_word_embeddings": config.model.tie_embeddings,
    "text_config": llama.to_published(config),
    "preprocessor": eyes.pop("preprocessor"), "vision_config": eyes,
  }  # fmt: skip


def _size(**text):
  eyes = clip.PUBLISHED["L-14-336"]["vision_config"]
  words = {
    **llama.PUBLISHED["2-7B"], "vocab_size": 32064, "model_type": "llama", **text,
  }  # fmt: skip
  return {
    "model_type": "llava", "image_token_index": IMAGE, "pad_token_id": 32001,
    "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    "text_config": words, "vision_config": {"model_type": "clip_vision_model", **eyes},
  }  # fmt: skip


PUBLISHED = {
  "1.5-7B": _size(),
  "1.5-13B": _size(
    num_hidden_layers=40, hidden_size=5120, num_attention_heads=40,
    num_key_value_heads=40, intermediate_size=13824,
  ),
}  # fmt: skip
PARAMETERS = {"1.5-7B": 7_063_427_072, "1.5-13B": 13_351_494_656}
