"""Emu3 (Wang et al. 2024, arXiv 2409.18869): one softmax over words and codes.

  unijax import emu3 FOLDER --out=runs/emu3
  unijax sample --workdir=runs/emu3 --image=cat.png --prompt="Please describe it"
  unijax sample --workdir=runs/emu3 --begin=image --prompt="a cat"

Folders of transformers (Emu3ForConditionalGeneration): a Llama whose tokenizer has the
codes of pictures behind its words. The tokenizer of pictures (emu3_vq.py) is a part of
the files and becomes RUN/codec. BAAI/Emu3-Chat, -Gen and -Stage1, the original layout,
have none; it is released apart, and given by --codec. They need a tokenizer.json
beside them, which the folders of transformers have:

  unijax import emu3_vq VISION_TOKENIZER --out=runs/emu3_vq
  unijax import emu3 FOLDER --codec=runs/emu3_vq --out=runs/emu3

As in the official scripts a prompt is what is said between "USER: " and ". ASSISTANT:"
behind the system's sentence, or, where a picture is drawn, that text alone with a few
words behind it. A picture is BOI, its height and width in codes as words, a token that
says so, lines of codes with a token at the end of each, one at the end of all, EOI. It
is drawn with guidance 3 against a prompt of what is not wanted, from the 2,048
likeliest codes; the tokens among the codes are written without being drawn.

Differences: all pictures are squares of one size, `image_area` pixels (720 x 720 where
config.json says nothing), and those that are read are made square with grey, where the
release keeps their shape within 512^2 .. 1024^2 pixels; what is shown at another size
is an error. No clips. `vocabulary_map` is written back without the words, which are in
the tokenizer.
"""

import math

from ml_collections import ConfigDict

from configs.released import _decoder, _parts, _towers, emu3_vq
from unijax.config import ConfigError
from unijax.data.tokenizer import make_tokenizer
from unijax.interop.keymap import Drop

PREFIXES = {
  "text": ("text_model.model.", "model."), "head": ("text_model.", ""),
  "vae": ("vqmodel.",),
}  # fmt: skip
KEYS = _decoder.KEYS
DROPS = (*_decoder.DROPS, Drop("<vae>*"))
PARTS = {"codec": ("emu3_vq", {"vae": "vqmodel."})}
SIZES = {**_parts.below("text_config.", _decoder.SIZES), **emu3_vq.SIZES}
WORDS = {  # what transformers takes for fields of text_config that are not written
  "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 1e6,
  "rms_norm_eps": 1e-5, "max_position_embeddings": 9216, "pad_token_id": 151_643,
  "bos_token_id": 151_849, "eos_token_id": 151_850,
}  # fmt: skip
MAP = "vocabulary_map."
# Names in vocabulary_map. "time", which no such row has, is what the library's files
# put in the place of a picture.
NAMES = {
  "boi": "<|image start|>", "eoi": "<|image end|>", "time": "<image>",
  "user": "<image>", "assistant": "<image>",
}  # fmt: skip
AMONG = {"open": "<|image token|>", "line": "<|extra_200|>", "close": "<|extra_201|>"}
# Fields of the original layout, and ids where nothing says them.
FIELDS = {
  "<|image start|>": ("boi_token_id", 151_852),
  "<|image end|>": ("eoi_token_id", 151_853),
  "<|image token|>": ("img_token_id", 151_851),
  "<|extra_200|>": ("eol_token_id", 151_846),
  "<|extra_201|>": ("eof_token_id", 151_847),
  "<image>": ("pad_token_id", 151_643),
}
BOS = "<|extra_203|>"
SYSTEM = "You are a helpful assistant."
SUFFIX = " masterpiece, film grained, best quality."
NEGATIVE = (
  "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer "
  "digits, cropped, worst quality, low quality, normal quality, jpeg artifacts, "
  "signature, watermark, username, blurry."
)


def code_name(code: int) -> str:
  """What vocabulary_map calls a code."""
  return f"<|visual token {code:06d}|>"


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  words = text(published)
  words.only("hidden_act", "silu")
  for name in ("attention_bias", "mlp_bias"):
    words.only(name, False)
  for name, value in zip(("mean", "std"), _towers.HALF, strict=True):
    published.only(f"preprocessor.image_{name}", value)
  c = _decoder.get_config(words, norm_eps=words["rms_norm_eps"])
  told = {n: published[n] for n in emu3_vq.SIZES if n in published}  # by the files
  codec = emu3_vq.get_config(published.part("vq_config.", **told))
  c.codec.update(codec.codec)
  codes, stride = codec.codec.codebook, 2 ** (len(codec.codec.multipliers) - 1)
  first = words["vocab_size"] - codes  # of the codes, where nothing says it
  published.only("preprocessor.spatial_factor", stride)
  # As the library's processor counts codes of a side.
  side = round(math.sqrt(published.get("image_area", emu3_vq.SIZE**2)) / stride)
  c.model.write = "codes"
  c.data.update(
    codec=f"codes:{codes}:{stride}", patch_size=1, image_size=side * stride, fit="pad",
    resample=_towers.RESAMPLE[published.only("preprocessor.resample", 3, 2, 1)],
    noise_limit=0.0, images_per_row=4, special=special(published, words),
    image_tokens=among(published, side),
    code_ids=tuple(published.get(MAP + code_name(i), first + i) for i in range(codes)),
    chat=chat(), marks=((BOS, words["bos_token_id"]),),
  )  # fmt: skip
  c.train.update(image_loss_weight=0.5, z_loss=0.0)
  c.sample.update(guidance=3.0, image_top_k=2048, image_temperature=1.0)
  c.sample.update(prompt_suffix=SUFFIX, negative_prompt=NEGATIVE)
  return c


def text(published):
  """Fields of the decoder, which in the original layout are those of the whole."""
  if "hidden_size" in published:
    return published.given(**{k: published.get(k, x) for k, x in WORDS.items()})
  return _parts.decoder(published, **WORDS)


def special(published, words) -> tuple[tuple[str, int], ...]:
  """Ids by name."""
  ids = dict(_decoder.special(words))
  return tuple((ids | {n: _id(published, x) for n, x in NAMES.items()}).items())


def among(published, side: int) -> tuple[tuple[str, int], ...]:
  """`data.image_tokens` of a square of so many codes a side."""
  size, file = f"{side}*{side}", published.get("tokenizer.file")
  if file:
    ids = make_tokenizer(file).encode(size)
  else:  # bytes have their numbers less 33 in the released tokenizer
    ids = [published.get(MAP + x, ord(x) - 33) for x in size]
  opened = (("open", x) for x in ids)
  return (*opened, *((place, _id(published, x)) for place, x in AMONG.items()))


def _id(published, name: str) -> int:
  """Of a special token."""
  field, usual = FIELDS[name]
  return published.get(MAP + name, published.get(field, usual))


def chat() -> tuple[tuple[str, str], ...]:
  """What stands around turns; nothing does where a picture is drawn."""
  said = {"begin": BOS + SYSTEM, "user": " USER: ", "assistant": ". ASSISTANT:"}
  drawn = {"draw_begin": BOS, "draw_user": "", "draw_assistant": ""}
  return tuple((said | drawn).items())


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  m, data = config.model, config.data
  if len(data.code_ids) != config.codec.codebook:
    raise ConfigError(
      f"data.code_ids: {len(data.code_ids)} ids for {config.codec.codebook} codes, and "
      "an Emu3 says the id of each in its vocabulary_map"
    )
  prepared = _towers.preprocessor(config, "Emu3ImageProcessor")
  for name in ("crop_size", "do_center_crop", "size"):
    del prepared[name]
  codec = emu3_vq.to_published(config)
  del codec["architectures"], codec["image_size"]
  return {
    "architectures": ["Emu3ForConditionalGeneration"], "model_type": "emu3",
    "dtype": "float32", "tie_word_embeddings": m.tie_embeddings,
    "image_area": data.image_size**2, "vq_config": codec,
    "text_config": _decoder.to_published(
      config, model_type="emu3_text_model", hidden_act="silu", rms_norm_eps=m.norm_eps
    ),
    "vocabulary_map": vocabulary_map(config),
    "preprocessor": {
      **prepared, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
      "spatial_factor": 2 ** (len(config.codec.multipliers) - 1),
    },
  }  # fmt: skip


def vocabulary_map(config) -> dict[str, int]:
  """Names of special tokens, of the words for a size, and of codes, with their ids."""
  data, ids = config.data, dict(config.data.special)
  *size, _ = config.image_tokens("open")
  named = dict(zip(f"{config.grid}*{config.grid}", size, strict=True))
  named |= {told: ids[name] for name, told in NAMES.items()}
  named |= {told: config.image_tokens(place)[-1] for place, told in AMONG.items()}
  return named | {code_name(i): token for i, token in enumerate(data.code_ids)}


def _size(**fields):
  return {
    "model_type": "emu3", "vq_config": emu3_vq.PUBLISHED["32768"],
    "text_config": {
      "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14_336,
      "vocab_size": 184_622, "tie_word_embeddings": False, **WORDS, **fields,
    },
  }  # fmt: skip


PUBLISHED = {"8B": _size()}
PARAMETERS = {"8B": 8_762_751_807 - 270_740_287}  # without those of the tokenizer
