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

Not read: the layout of the original repository.
"""

from ml_collections import ConfigDict

from configs.released import _decoder, _towers, chameleon_vq
from unijax.config import ConfigError
from unijax.interop.keymap import Drop

PREFIXES = {"text": ("model.",), "head": ("",), "vae": ("model.vqmodel.",)}
KEYS = _decoder.KEYS
DROPS = (*_decoder.DROPS, Drop("<vae>*"))
PARTS = {"codec": ("chameleon_vq", {"vae": "model.vqmodel."})}
SIZES = {**_decoder.SIZES, **chameleon_vq.SIZES}
# Names in vocabulary_map, by what they are here. "time", which no such row has, is the
# token that the library's files put in the place of a picture.
NAMES = {
  "bos": "<s>", "eos": "</s>", "pad": "<pad>", "boi": "<racm3:break>", "eoi": "<eoss>",
  "assistant": "<reserved08706>", "user": "<reserved08706>", "time": "<image>",
}  # fmt: skip
MAP = "vocabulary_map."
ONES = (1.0, 1.0, 1.0)  # taken off pixels between 0 and 2, and divided by


def code_name(code: int) -> str:
  """What vocabulary_map calls a code: its digits as letters."""
  digits = "".join(chr(ord("A") + int(digit)) for digit in str(code))
  return f"IMGIMG{digits}Z"


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
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
