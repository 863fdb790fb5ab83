"""Chameleon (Chameleon Team 2024): reads and writes text and image codes as one row.

  unijax import chameleon FOLDER --out=runs/chameleon
  unijax sample --workdir=runs/chameleon --image=cat.png --prompt="What is this?"

Folders of transformers (ChameleonForConditionalGeneration): a Llama with a layer norm a
head on queries and keys, norms after branches in the 30B, and one softmax over words
and codes, whose ids stand among those of words: `vocabulary_map` names them. The
tokenizer of pictures (chameleon_vq.py) is a part of the files and becomes RUN/codec. It
has no decoder there, so such a run reads pictures and draws none; that of the original
release is given to it by --codec, once converted and imported:

  unijax import chameleon_vq vqgan.safetensors --size=8192 --out=runs/vq
  unijax import chameleon FOLDER --codec=runs/vq --out=runs/chameleon

A prompt is BOS, what is shown and said, and the token that ends a turn, as that of the
library's processor. Three differences from the library: where no picture can be drawn
BOI is not written; pixels are divided by 127.5, as in the original, where the processor
multiplies by 0.0078; and vocabulary_map is written back without the words, which are in
the tokenizer. From the original: guidance has one scale, against a row without text, in
the place of two, and codes are drawn from all of their softmax, not from 0.9 of it.

The original release is read too: consolidated.pth of the 7B, consolidated.00.pth to 03
of the 30B, converted one by one, with params.json beside them and text_tokenizer.json
as tokenizer.json; vqgan.ckpt comes by --codec, as above, so that such a run draws.
"""

from ml_collections import ConfigDict

from configs.released import _decoder, _parts, _towers, chameleon_vq
from unijax.config import ConfigError
from unijax.data.tokenizer import make_tokenizer
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import LINEAR, Repeated, RopePairs
from unijax.interop.told import absent, axis, count

CONFIGS = {"params": "params.json"}
PREFIXES = {"text": ("model.",), "head": ("",), "vae": ("model.vqmodel.",)}
DROPS = (*_decoder.DROPS, Drop("<vae>*"), Drop("rope.freqs"))
PARTS = {"codec": ("chameleon_vq", {"vae": "model.vqmodel."})}
# The original release of the 30B: parts of each matrix, norms of a part of the heads.
SHARDS = (
  "consolidated.*.safetensors",
  (
    ("tok_embeddings.weight", 1), ("*.wo.weight", 1), ("*.w2.weight", 1),
    ("*_normalization.*", "stack"), ("*norm.weight", "mean"), ("rope.freqs", "first"),
    ("*.weight", 0),
  ),
)  # fmt: skip
_FIRST = "layers.{i}"  # a layer of the original layout
SIZES = {
  **_decoder.SIZES, **chameleon_vq.SIZES,
  "vocab_size": axis(("<text>embed_tokens.weight", "tok_embeddings.weight"), 0),
  "hidden_size": axis(("<text>embed_tokens.weight", "tok_embeddings.weight"), 1),
  "intermediate_size": axis(
    (f"{_decoder.LAYER}.mlp.up_proj.weight", f"{_FIRST}.feed_forward.w3.weight"), 0
  ),
  "num_hidden_layers": count(
    (f"{_decoder.LAYER}.input_layernorm.weight", f"{_FIRST}.attention_norm.weight")
  ),
  "tie_word_embeddings": absent(("<head>lm_head.weight", "output.weight")),
}  # fmt: skip


def original(config):
  """Keys of the original layout: rotary pairs are neighbours there, and one norm of
  queries, and one of keys, is that of all heads."""
  m, to, layer = config.model, _decoder.BLOCK, f"{_FIRST}.attention"
  turned = RopePairs(m.head_dim, LINEAR)
  keys = (
    Key("embedding/table", "tok_embeddings.weight"),
    Key(f"{to}/attention/q/kernel", f"{layer}.wq.weight", turned),
    Key(f"{to}/attention/k/kernel", f"{layer}.wk.weight", turned),
    Key(f"{to}/attention/v/kernel", f"{layer}.wv.weight", LINEAR),
    Key(f"{to}/attention/out/kernel", f"{layer}.wo.weight", LINEAR),
    Key(f"{to}/attention_norm/scale", f"{_FIRST}.attention_norm.weight"),
    Key(f"{to}/mlp_norm/scale", f"{_FIRST}.ffn_norm.weight"),
    Key("transformer/final_norm/scale", "norm.weight"),
    Key("text_head/kernel", "output.weight", LINEAR),
  )
  for name, theirs in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
    here, there = f"{to}/mlp/{name}/kernel", f"{_FIRST}.feed_forward.{theirs}.weight"
    keys += (Key(here, there, LINEAR),)
  for name, heads in (("q", m.heads), ("k", m.kv_heads)):
    for leaf, theirs in (("scale", "weight"), ("bias", "bias")):
      here = f"{to}/attention/{name}_norm/{leaf}"
      there = f"{layer}.{name}_normalization.{theirs}"
      keys += (Key(here, there, Repeated(heads, RopePairs(m.head_dim))),)
  return keys


def KEYS(config):
  """All keys, in either layout."""
  return _parts.either(_decoder.KEYS, original(config))


# Names in vocabulary_map, by what they are here. "time", which no such row has, is the
# token that the library's files put in the place of a picture.
NAMES = {
  "bos": "<s>", "eos": "</s>", "pad": "<pad>", "boi": "<racm3:break>", "eoi": "<eoss>",
  "assistant": "<reserved08706>", "user": "<reserved08706>", "time": "<image>",
}  # fmt: skip
MAP = "vocabulary_map."
SPARE = "<reserved08707>"  # what is "<image>" in the library's files
ONES = (1.0, 1.0, 1.0)  # taken off pixels between 0 and 2, and divided by


def code_name(code: int) -> str:
  """What vocabulary_map calls a code: its digits as letters."""
  digits = "".join(chr(ord("A") + int(digit)) for digit in str(code))
  return f"IMGIMG{digits}Z"


def modern(published):
  """Fields of params.json by the names of transformers; others as they are."""
  of = next((x for x in ("params.model.", "params.") if f"{x}dim" in published), None)
  if of is None:
    return published
  if "tokenizer.file" not in published:
    raise ConfigError(
      "chameleon: params.json says no ids, and there is no tokenizer beside it that "
      "does: put text_tokenizer.json of the release there, as tokenizer.json"
    )
  known = published.part(of)
  named = make_tokenizer(published["tokenizer.file"]).tokenizer.get_vocab()
  named = {"<image>": named.get(SPARE), **named}
  fields = {f"{MAP}{name}": x for name, x in named.items()}
  for name, token in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>")):
    fields[f"{name}_token_id"] = named.get(token)
  return published.given(
    **fields, attention=True,  # of the tokenizer of pictures, which is elsewhere
    hidden_size=known["dim"], num_hidden_layers=known["n_layers"],
    num_attention_heads=known["n_heads"], rms_norm_eps=known.get("norm_eps", 1e-5),
    num_key_value_heads=known.get("n_kv_heads") or known["n_heads"],
    rope_theta=known.get("rope_theta", 1e4), swin_norm=known.get("swin_norm", False),
  )  # fmt: skip


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published = modern(published)
  published.only("hidden_act", "silu")
  published.only("rms_norm_eps", 1e-5)  # as that of queries and keys, which is fixed
  published.only("mlp_bias", False)
  for name in ("mean", "std"):
    published.only(f"preprocessor.image_{name}", ONES)
  published.only("preprocessor.rescale_factor", 0.0078, 1 / 127.5)
  words = published.given(
    max_position_embeddings=published.get("max_position_embeddings", 4096)
  )
  c = _decoder.get_config(
    words, qk_norm=True, qk_norm_kind="layer_heads", norm_eps=1e-5,
    bias="attention" if published.get("attention_bias") else "none",
    block="branch" if published.get("swin_norm") else "pre",
  )  # fmt: skip
  codec = chameleon_vq.get_config(published)
  codes, stride = codec.codec.codebook, 2 ** (len(codec.codec.multipliers) - 1)
  size = codec.data.image_size
  published.only("preprocessor.crop_size.height", size)
  published.only("preprocessor.crop_size.width", size)
  short = published.get("preprocessor.size.shortest_edge", size)
  c.codec.update(codec.codec)
  c.model.write = "codes"
  c.data.update(
    codec=f"codes:{codes}:{stride}", patch_size=1, image_size=size, fit="resize",
    resample=_towers.RESAMPLE[published.only("preprocessor.resample", 1, 3, 2)],
    resize=0 if short == size else short, noise_limit=0.0, images_per_row=4,
    special=tuple((name, published[MAP + told]) for name, told in NAMES.items()),
    code_ids=tuple(published[MAP + code_name(i)] for i in range(codes)),
    chat=(("user", ""),),  # BOS before, and the end of a turn after it, are ids
  )  # fmt: skip
  c.train.update(image_loss_weight=1.0, z_loss=1e-5)
  c.sample.update(guidance=3.0, image_temperature=0.7, stops=stops(published, c))
  return c


def stops(published, c) -> tuple[int, ...]:
  """Ids that end what is written, besides that of `eos`."""
  eos = dict(c.data.special)["eos"]
  return tuple(i for i in _decoder.ends(published) if i != eos)


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  m, data, ids = config.model, config.data, dict(config.data.special)
  if len(data.code_ids) != config.codec.codebook:
    raise ConfigError(
      f"data.code_ids: {len(data.code_ids)} ids for {config.codec.codebook} codes, and "
      "a Chameleon says the id of each in its vocabulary_map"
    )
  prepared = _towers.preprocessor(config, "ChameleonImageProcessor")
  codec = chameleon_vq.to_published(config)
  del codec["architectures"]
  return {
    **_decoder.to_published(config),
    "architectures": ["ChameleonForConditionalGeneration"], "model_type": "chameleon",
    "hidden_act": "silu", "rms_norm_eps": m.norm_eps,
    "attention_bias": m.bias == "attention", "mlp_bias": False,
    "swin_norm": m.block == "branch", "model_parallel_size": 1, "vq_config": codec,
    "vocabulary_map": vocabulary_map(ids, data.code_ids),
    "preprocessor": {
      **prepared, "image_mean": list(ONES), "image_std": list(ONES),
      "rescale_factor": 1 / 127.5,
    },
  }  # fmt: skip


def vocabulary_map(ids, codes) -> dict[str, int]:
  """Names of special tokens and codes, with their ids."""
  named = {told: ids[name] for name, told in NAMES.items()}
  return named | {code_name(number): token for number, token in enumerate(codes)}


def _size(layers, width, heads, kv_heads, hidden, swin):
  ids = {
    "bos": 0, "pad": 1, "eos": 2, "eoi": 8196, "boi": 8197, "assistant": 8710,
    "user": 8710, "time": 8711,
  }  # fmt: skip
  return {
    "model_type": "chameleon", "num_hidden_layers": layers, "hidden_size": width,
    "num_attention_heads": heads, "num_key_value_heads": kv_heads,
    "intermediate_size": hidden, "vocab_size": 65_536, "rms_norm_eps": 1e-5,
    "rope_theta": 1e4, "max_position_embeddings": 4096, "tie_word_embeddings": False,
    "eos_token_id": 2, "swin_norm": swin, "vq_config": chameleon_vq.PUBLISHED["8192"],
    # The released order of codes is another; which it is decides no shape.
    "vocabulary_map": vocabulary_map(ids, range(4, 8196)),
  }  # fmt: skip


PUBLISHED = {
  "7B": _size(32, 4096, 32, 32, 11_008, False),
  "30B": _size(48, 8192, 64, 8, 22_016, True),
}
PARAMETERS = {  # without the 29,423,616 of the tokenizer
  "7B": 7_043_090_432 - 29_423_616, "30B": 34_323_732_480 - 29_423_616,
}  # fmt: skip
