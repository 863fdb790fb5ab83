"""Janus and Janus-Pro (Wu et al. 2024, Chen et al. 2025): reads features, writes codes.

  unijax import janus FOLDER --out=runs/janus
  unijax sample --workdir=runs/janus --image=cat.png --prompt="What is this?"
  unijax sample --workdir=runs/janus --begin=image --prompt="a cat"

Folders of transformers (JanusForConditionalGeneration) and of deepseek-ai (the original
layout, after `unijax ckpt convert` where it is a pickle): a Llama; SigLIP's tower with
exact GELU, whose features two layers make positions of; codes that enter through a
narrow table and two layers, and leave through two layers. The tokenizer of pictures
(janus_vq.py) is a part of the files and becomes RUN/codec.

As in the official scripts an image is drawn with guidance 5 against a row in which
padding stands for all but BOS and BOI, each code drawn at temperature 1; pictures that
are read are made square with grey; the system text of the processor stands before what
is only read. Three differences: several prompts are drawn side by side without the
padding that their processor puts on the left; BOS, BOI and EOI alone stay where text is
padding, also behind pictures that were read; and after an image EOI is written, so that
text may follow.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.released import _decoder, _parts, _towers, janus_vq, llama, siglip
from configs.released.llava import LLAMA
from unijax.interop.keymap import Drop, Key

# The first is that of transformers, the second of the original repository.
PREFIXES = {
  "text": ("model.language_model.", "language_model.model."),
  "head": ("", "language_model."),
  "vision": ("model.vision_model.", "vision_model.vision_tower."),
  "vae": ("model.vqmodel.", "gen_vision_model."),
}
_CODES = "model.generation_"
KEYS = (
  *_decoder.KEYS,
  *_parts.either(siglip.tower("projection_layer"), siglip.original("<vision>")),
  *_towers.linear("connector/in", "model.aligner.fc1", "aligner.layers.0"),
  *_towers.linear("connector/out", "model.aligner.hidden_layers.0", "aligner.layers.2"),
  Key("codes/embedding/table", (f"{_CODES}embeddings.weight", "gen_embed.weight")),
  *_towers.linear("codes/enter", f"{_CODES}aligner.fc1", "gen_aligner.layers.0"),
  *_towers.linear(
    "codes/widen", f"{_CODES}aligner.hidden_layers.0", "gen_aligner.layers.2"
  ),
  *_towers.linear(
    "codes/hidden", f"{_CODES}head.proj_out", "gen_head.output_mlp_projector"
  ),
  *_towers.linear("codes/head", f"{_CODES}head.vision_head", "gen_head.vision_head"),
)
DROPS = (
  *_decoder.DROPS, Drop("<vision>attn_pool.*"),
  *(Drop(f"{prefix}*") for prefix in PREFIXES["vae"]),
)  # fmt: skip
PARTS = {"codec": ("janus_vq", {"vae": PREFIXES["vae"]})}
SIZES = {**_parts.below("text_config.", _decoder.SIZES), **janus_vq.SIZES}
# Names of the tokenizer, and their ids where it is not there.
BOI, EOI, PLACE = "<begin_of_image>", "<end_of_image>", "<image_placeholder>"
IDS = {BOI: 100_016, EOI: 100_593, PLACE: 100_581}
SYSTEM = (  # of the processor, before what is only read
  "You are a helpful language and vision assistant. You are able to understand the "
  "visual content that the user provides, and assist the user with a variety of tasks "
  "using natural language.\n\n"
)


# Names of the tokenizer for fields that the original layout leaves out, and usual ids.
ENDS = {
  "bos_token_id": ("<｜begin▁of▁sentence｜>", 100_000),
  "eos_token_id": ("<｜end▁of▁sentence｜>", 100_001),
  "pad_token_id": ("<｜▁pad▁｜>", 100_002),
}
# Towers that the original layout knows by name.
TOWERS = {"siglip_large_patch16_384": {"image_size": 384, "patch_size": 16}}


def modern(published):
  """Fields of the original layout by the names of transformers; others as they are."""
  if "gen_vision_config.cls" not in published:
    return published
  codes = published.get("gen_vision_config.params.image_token_size", 16_384)
  words = published.part("language_config.")
  width = words.get("hidden_size", 4096)
  for name, value in (
    ("aligner_config.params.projector_type", "mlp_gelu"),
    ("aligner_config.params.depth", 2), ("aligner_config.params.n_embed", width),
    ("gen_aligner_config.params.projector_type", "mlp_gelu"),
    ("gen_aligner_config.params.depth", 2),
    ("gen_aligner_config.params.n_embed", width),
    ("gen_head_config.params.image_token_size", codes),
    ("gen_head_config.params.image_token_embed", width),
    ("vision_config.params.select_feature", "same"),
    ("vision_config.params.select_layer", -1),
  ):  # fmt: skip
    published.only(name, value)
  tower = TOWERS[published.only("vision_config.params.model_name", *TOWERS)]
  published.only("vision_config.params.image_size", tower["image_size"])
  below = {f"text_config.{name}": x for name, x in words.items()}
  for name, (token, usual) in ENDS.items():
    told = words.get(name, published.get(f"tokenizer.added.{token}", usual))
    below[f"text_config.{name}"] = told
  below["pad_token_id"] = below["text_config.pad_token_id"]
  below |= {f"vision_config.{name}": x for name, x in tower.items()}
  below["vision_config.projection_dim"] = width
  for name in ("projection_dim", "image_token_embed_dim"):
    below[f"vq_config.{name}"] = width
  return published.given(num_embeddings=codes, **below)


def template(published) -> str:
  """What stands around turns, where no chat template says it."""
  old = published.get("processor.sft_format") == "deepseek_old"
  return "Assistant:" if old else "<|Assistant|>:"


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published = modern(published)
  original = "gen_vision_config.cls" in published
  published.only("text_config.model_type", "llama")
  words = _parts.decoder(published, **LLAMA)
  c, codec = llama.get_config(words), janus_vq.get_config(published)
  _parts.read_through(c, eyes(published, c.model.width), "marked")
  c.data.fit = "pad"
  published.only("preprocessor.do_pad", True)
  for side in zip(("mean", "std"), _towers.HALF, strict=True):
    published.only(f"preprocessor.image_{side[0]}", side[1])
  for name in ("projection_dim", "image_token_embed_dim"):
    published.only(f"vq_config.{name}", c.model.width)
  published.only("vq_config.num_hidden_layers", 2)
  published.only("vq_config.hidden_act", "gelu")
  c.codec.update(codec.codec)
  codes, stride = codec.codec.codebook, 2 ** (len(codec.codec.multipliers) - 1)
  c.model.update(write="codes", code_adapter="mlp", code_width=codec.codec.channels)
  c.data.update(
    codec=f"codes:{codes}:{stride}", patch_size=1, vocab=c.data.vocab + codes,
    without_text="padded", special=special(published, words),
  )  # fmt: skip
  c.train.image_loss_weight = 1.0
  c.sample.guidance = 5.0
  begin = words.get("tokenizer.begin")
  if begin is not None:
    chat = words.get("tokenizer.chat") or template(published)
    c.data.chat = _decoder.chat(begin, chat)
    if published.get("processor.use_default_system_prompt", original):
      c.data.chat += (("system", SYSTEM),)
  return c


def eyes(published, width: int) -> ConfigDict:
  """The config of the tower of pictures alone, which is read by a map to `width`."""
  for name, known in (("depth", 2), ("attention_bias", True), ("use_qk_norm", False)):
    published.only(f"vision_config.{name}", known)
  published.only("vision_config.projection_dim", width)
  published.only("vision_config.hidden_act", "gelu")  # of the tower and of that map
  shape = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16}
  tower = published.part("vision_config.", **shape, image_size=384, hidden_act="gelu")
  hidden = int(tower["hidden_size"] * tower.get("mlp_ratio", 4.0))
  return siglip.get_config(
    tower.given(
      model_type="siglip_vision_model", vision_use_head=False, intermediate_size=hidden
    )
  )


def special(published, words) -> tuple[tuple[str, int], ...]:
  """Ids by name; "time", which no such row has, is the token that their files put in
  the place of a picture."""
  ids = dict(_decoder.special(words))
  for name, token in (("boi", BOI), ("eoi", EOI), ("time", PLACE)):
    usual = IDS[token] if IDS[token] < words["vocab_size"] else ids["pad"]
    ids[name] = published.get(f"tokenizer.added.{token}", usual)
  ids["time"] = published.get("image_token_id", ids["time"])
  return tuple(ids.items())


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v, size, ids = config.vision, config.data.image_size, _towers.marked(config)
  width = config.model.width
  text = dataclasses.replace(config.data, vocab=config.data.vocab - config.codebook)
  prepared = _towers.preprocessor(config, "JanusImageProcessor")
  del prepared["crop_size"], prepared["do_center_crop"]
  wide = {"projection_dim": width, "hidden_act": "gelu"}
  plain = _towers.plain(v)
  del plain["intermediate_size"]
  codec = janus_vq.to_published(config)
  del codec["architectures"]
  return {
    "architectures": ["JanusForConditionalGeneration"], "model_type": "janus",
    "dtype": "float32", "image_token_id": ids["time"], "pad_token_id": ids["pad"],
    "tie_word_embeddings": config.model.tie_embeddings,
    "text_config": llama.to_published(dataclasses.replace(config, data=text)),
    "vision_config": {
      "model_type": "janus_vision_model", **plain, **wide, "depth": 2,
      "mlp_ratio": v.mlp_width / v.width, "patch_size": v.patch_size,
      "image_size": size, "num_channels": 3, "num_image_tokens": config.features,
      "attention_bias": True, "use_qk_norm": False,
    },
    "vq_config": {
      **codec, **wide, "num_hidden_layers": 2, "image_token_embed_dim": width,
    },
    "preprocessor": {
      **prepared, "do_pad": True, "size": {"height": size, "width": size},
      "min_size": 14,
    },
  }  # fmt: skip


def _size(layers, width, heads, hidden):
  wide = {"projection_dim": width, "hidden_act": "gelu"}
  return {
    "model_type": "janus", "image_token_id": IDS[PLACE], "pad_token_id": 100_002,
    "text_config": {
      "model_type": "llama", "num_hidden_layers": layers, "hidden_size": width,
      "num_attention_heads": heads, "num_key_value_heads": heads,
      "intermediate_size": hidden, "vocab_size": 102_400, "rms_norm_eps": 1e-6,
      "max_position_embeddings": 16_384, "bos_token_id": 100_000,
      "eos_token_id": 100_001, "tie_word_embeddings": False,
    },
    "vision_config": {"model_type": "janus_vision_model", **wide},
    "vq_config": {
      **janus_vq.PUBLISHED["16384"], **wide, "image_token_embed_dim": width,
    },
  }  # fmt: skip


PUBLISHED = {
  "1.3B": _size(24, 2048, 16, 5632),
  "Pro-1B": _size(24, 2048, 16, 5632),
  "Pro-7B": _size(30, 4096, 32, 11_008),
}
PARAMETERS = {  # without the 71,883,403 of the tokenizer
  "1.3B": 2_004_753_408, "Pro-1B": 2_004_753_408, "Pro-7B": 7_335_889_920,
}  # fmt: skip
