"""BLIP-2 (Li et al. 2023): an encoder, queries that read it, an OPT that reads these.

  unijax import blip2 FOLDER --out=runs/blip2
  unijax sample --workdir=runs/blip2 --image=cat.png \
    --prompt="Question: what is this? Answer:"

Folders of transformers. Blip2ForConditionalGeneration over OPT becomes a decoder that
reads what the queries say, before BOS and the prompt. Blip2ForImageTextRetrieval, whose
Q-Former knows words, becomes a run of alignment: contrast and matching, without the
head that writes and the learned factor, which its files leave out.

Refused: Flan-T5, which is an encoder and a decoder.
"""

from ml_collections import ConfigDict

from configs.released import _parts, _towers, opt
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import COPY, LINEAR, Ones, Part, Patches
from unijax.interop.told import axis, count, present

PREFIXES = {"text": ("language_model.model.decoder.",), "head": ("language_model.",)}
DROPS = (Drop("embeddings.position_ids"),)
_EYES, _LAYERS = "vision_model.encoder.layers.{i}", "qformer.encoder.layer"


def _eyes():
  """The encoder of pictures, whose queries, keys and values are one matrix."""
  to, keys = "vision/encoder/blocks", ()
  for number, name in enumerate("qkv"):
    for leaf, theirs, op in (("kernel", "weight", LINEAR), ("bias", "bias", COPY)):
      here, there = f"{to}/attention/{name}/{leaf}", f"{_EYES}.self_attn.qkv.{theirs}"
      keys += (Key(here, there, Part(number, op)),)
  embeddings = "vision_model.embeddings"
  return (
    Key("vision/class", f"{embeddings}.class_embedding", Ones(1)),
    Key("vision/position", f"{embeddings}.position_embedding", Ones(1)),
    *_towers.linear("vision/patch", f"{embeddings}.patch_embedding", op=Patches()),
    *keys,
    *_towers.linear(f"{to}/attention/out", f"{_EYES}.self_attn.projection"),
    *_towers.norm(f"{to}/attention_norm", f"{_EYES}.layer_norm1"),
    *_towers.norm(f"{to}/mlp_norm", f"{_EYES}.layer_norm2"),
    *_towers.linear(f"{to}/mlp/up", f"{_EYES}.mlp.fc1"),
    *_towers.linear(f"{to}/mlp/down", f"{_EYES}.mlp.fc2"),
    *_towers.norm("vision/final_norm", "vision_model.post_layernorm"),
  )


def _attention(ours: str, theirs: str):
  keys = ()
  for name, word in (("q", "query"), ("k", "key"), ("v", "value")):
    keys += _towers.linear(f"{ours}/{name}", f"{theirs}.attention.{word}")
  return (
    *keys,
    *_towers.linear(f"{ours}/out", f"{theirs}.output.dense"),
    *_towers.norm(f"{ours}_norm", f"{theirs}.output.LayerNorm"),
  )


def _mlp(ours: str, into: str, out: str):
  return (
    *_towers.linear(f"{ours}/up", f"{into}.dense"),
    *_towers.linear(f"{ours}/down", f"{out}.dense"),
    *_towers.norm(f"{ours}_norm", f"{out}.LayerNorm"),
  )


def _stack(place: str, every: int):
  """The Q-Former; leaves that one without words lacks have no keys."""
  keys = (
    Key(f"{place}/query", "query_tokens", Ones(1)),
    *_towers.norm(f"{place}/embed_norm", "qformer.layernorm"),
  )
  for number in range(every):
    to, of = f"{place}/groups/block_{number}", f"{_LAYERS}.{{{every}*i+{number}}}"
    keys += (
      *_attention(f"{to}/attention", f"{of}.attention"),
      *_attention(f"{to}/cross", f"{of}.crossattention"),
      *_mlp(f"{to}/query_mlp", f"{of}.intermediate_query", f"{of}.output_query"),
      *_mlp(f"{to}/text_mlp", f"{of}.intermediate", f"{of}.output"),
    )
  return keys


WORDS = (
  Key("qformer/embedding/table", "embeddings.word_embeddings.weight"),
  Key("qformer/position", "embeddings.position_embeddings.weight"),
  *_towers.linear("qformer/match_head", "itm_head"),
  *_towers.linear("image_projection", "vision_projection"),
  *_towers.linear("text_projection", "text_projection"),
)


def KEYS(config):
  """All keys of a config: of stage one, or of the whole."""
  every = config.align.cross_every
  if config.train.task == "alignment":
    return *_eyes(), *_stack("qformer", every), *WORDS
  projection = _towers.linear("connector/out", "language_projection")
  return *opt.KEYS, *_eyes(), *_stack("connector/queries", every), *projection


SIZES = {
  **_parts.below("text_config.", opt.SIZES),
  "vision_config.num_hidden_layers": count(f"{_EYES}.layer_norm1.weight"),
  "vision_config.hidden_size": axis("vision_model.post_layernorm.weight", 0),
  "qformer_config.hidden_size": axis("qformer.layernorm.weight", 0),
  "qformer_config.num_hidden_layers": count(
    f"{_LAYERS}.{{i}}.intermediate_query.dense.weight"
  ),
  "qformer_config.use_qformer_text_input": present("embeddings.word_embeddings.weight"),
  "num_query_tokens": axis("query_tokens", 1),
}
BERT = {"[CLS]": 101, "[SEP]": 102, "[PAD]": 0}  # ids of its tokenizer


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  eyes = _see(published)
  if published.get("qformer_config.use_qformer_text_input", False):
    return _aligned(eyes, published)
  published.only("text_config.model_type", "opt")
  words = _parts.decoder(published)
  c = opt.get_config(words)
  _parts.read_through(c, eyes, "bare")
  c.text, c.align = eyes.text, eyes.align
  c.model.update(connector="qformer", connector_queries=_queries(published))
  c.data.pictures_first = True
  image = published.get("image_token_index", published.get("image_token_id"))
  if image is not None:
    c.data.special = tuple({**dict(c.data.special), "boi": image, "eoi": image}.items())
  return c


def _queries(published) -> int:
  return published.get("num_query_tokens", 32)


def _see(published) -> ConfigDict:
  """The encoder of pictures and the stack of the queries."""
  of = "vision_config."
  c = _towers.config(
    published.get(f"{of}image_size", 224), _towers.PHOTOS, published, squeeze=True
  )
  c.vision.update(
    **_towers.shape(published, of, 16, 1408, 39, 6144), pool="class", crop=True,
    patch_size=published.get(f"{of}patch_size", 14),
    norm_eps=published.get(f"{of}layer_norm_eps", 1e-6),
    mlp=_towers.activation(published, f"{of}hidden_act", "gelu"),
  )  # fmt: skip
  published.only(f"{of}qkv_bias", True)
  of = "qformer_config."
  c.text.update(
    **_towers.shape(published, of, 12, 768, 12, 3072), norm="post",
    norm_eps=published.get(f"{of}layer_norm_eps", 1e-12),
    mlp=_towers.activation(published, f"{of}hidden_act", "gelu"),
  )  # fmt: skip
  every = published.get(f"{of}cross_attention_frequency", 2)
  c.align.update(objective="none", cross_every=every)
  c.align.update(feature_norm=False, class_seen=True)
  return c


def _aligned(c, published) -> ConfigDict:
  """Stage one, which compares and matches pictures and texts."""
  of = "qformer_config."
  c.text.vocab = published.get(f"{of}vocab_size", 30522)
  c.text.length = published.get(f"{of}max_position_embeddings", 512)
  ids = (published.get(f"tokenizer.added.{name}", i) for name, i in BERT.items())
  _towers.marks(c, *ids)
  c.align.update(
    objective="queries", queries=_queries(published), writes=False, scale_learned=False,
    width=published.get("image_text_hidden_size", 256), image_projection="bias",
    text_projection="bias",
  )  # fmt: skip
  return c


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v, t, a = config.vision, config.text, config.align
  aligned = config.train.task == "alignment"
  kind = "ImageTextRetrieval" if aligned else "ConditionalGeneration"
  queries = a.queries if aligned else config.model.connector_queries
  made = {
    "architectures": [f"Blip2For{kind}"], "model_type": "blip-2", "dtype": "float32",
    "num_query_tokens": queries,
    "preprocessor": _towers.preprocessor(config, "BlipImageProcessor"),
    "vision_config": {
      "model_type": "blip_2_vision_model", **_towers.plain(v), "qkv_bias": True,
      "patch_size": v.patch_size, "image_size": config.data.image_size,
    },
    "qformer_config": {
      "model_type": "blip_2_qformer", **_towers.plain(t),
      "encoder_hidden_size": v.width, "cross_attention_frequency": a.cross_every,
      "use_qformer_text_input": aligned,
    },
  }  # fmt: skip
  if aligned:
    sizes = {"vocab_size": t.vocab, "max_position_embeddings": t.length}
    made["qformer_config"] |= sizes
    return made | {"image_text_hidden_size": a.width}
  ids = _towers.marked(config)
  image = ids["boi"] if ids["boi"] != ids["pad"] else None
  return made | {
    "image_token_index": image, "text_config": opt.to_published(config),
    "tie_word_embeddings": config.model.tie_embeddings,
  }  # fmt: skip


def _size(words, **fields):
  eyes = {"image_size": 224, "patch_size": 14, "hidden_size": 1408}
  return {
    "model_type": "blip-2", "vision_config": eyes, "num_query_tokens": 32, **words,
    **fields,
  }  # fmt: skip


def _whole(size):
  words = {**opt.PUBLISHED[size], "model_type": "opt", "eos_token_id": 50118}
  return _size({"text_config": words})


PUBLISHED = {
  "opt-2.7B": _whole("2.7B"), "opt-6.7B": _whole("6.7B"),
  "itm": _size({"qformer_config": dict(use_qformer_text_input=True, vocab_size=30523)}),
}  # fmt: skip
PARAMETERS = {
  "opt-2.7B": 3_744_679_936, "opt-6.7B": 7_752_738_304, "itm": 1_172_032_258,
}  # fmt: skip
