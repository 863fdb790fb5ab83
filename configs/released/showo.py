"""Show-o (Xie et al. 2024): text token by token, pictures as masked codes, one decoder.

  unijax import showo FOLDER --out=runs/showo
  unijax sample --workdir=runs/showo --image=cat.png --prompt="What is this?"
  unijax sample --workdir=runs/showo --begin=image --prompt="a cat"

FOLDER has config.json and model.safetensors of showlab/show-o or show-o-512x512 (a
Phi-1.5 with norms of queries and keys, whose table goes on with ten marks, 8,192 codes
and the mask token), in `magvitv2` those of showlab/magvitv2, which become RUN/codec,
and tokenizer.json of microsoft/phi-1_5. Its config.json names that decoder and no
sizes; those are told by the weights.

As in the official scripts: a picture that is read and its BOI, EOI and <|mmu|> see one
another, one that is drawn and its BOI and EOI likewise; rows are `<|mmu|> BOI codes EOI
BOS "USER: \\n".. " ASSISTANT:"` and `<|t2i|> BOS text EOS BOI codes EOI`; a picture is
drawn in 50 steps with guidance 5 (512 pixels; 18 and 1.75 with 256) against a row
without text, the share of hidden codes is a cosine, codes are drawn at temperature 1,
and noise on confidence is multiplied by the share of steps left after every step;
answers are greedy, of 100 tokens or to EOS. Four differences: prompts have no padding
on the left, which rotary positions do not tell from none; they are not cut at 128
tokens; nothing but text is written as text; and text may follow a drawn picture.

Refused: w_clip_vit, whose pictures are read through CLIP with another size than they
are drawn with.
"""

from math import isqrt, pi

from ml_collections import ConfigDict

from configs.released import magvit_v2, phi
from unijax.interop.keymap import Drop
from unijax.interop.told import axis

FOLDERS = ("magvitv2",)
PREFIXES = {"text": ("showo.model.",), "head": ("showo.",), "vae": ("magvitv2/",)}
KEYS = phi.KEYS
DROPS = (*phi.DROPS, Drop("<vae>*"))
PARTS = {"codec": ("magvit_v2", {"vae": "magvitv2/"})}
SIZES = {
  **phi.SIZES, **magvit_v2.SIZES,
  "head_dim": axis("<text>layers.{i}.self_attn.q_layernorm.weight", 0),
}  # fmt: skip
# Marks of the official code have ids behind those of text, in this order.
MARKS = (
  "[PAD]", "<|soi|>", "<|eoi|>", "<|sov|>", "<|eov|>", "<|t2i|>", "<|mmu|>", "<|t2v|>",
  "<|v2v|>", "<|lvg|>",
)  # fmt: skip
END = "<|endoftext|>"  # of the tokenizer: begins and ends texts
CHAT = (
  ("begin", END), ("user", "USER: \n"), ("assistant", " ASSISTANT:"),
  ("image_begin", "<|mmu|>"), ("draw_begin", f"<|t2i|>{END}"), ("draw_user", ""),
  ("draw_assistant", ""), ("draw_image", END),
)  # fmt: skip
DRAWS = {256: (18, 1.75), 512: (50, 5.0)}  # steps and guidance of the official commands


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("w_clip_vit", False)
  words = published.part("", **phi.PUBLISHED["showo"])
  width, head = words["hidden_size"], published.get("head_dim", 64)
  c = phi.get_config(words.given(num_attention_heads=width // head))
  c.model.update(write="masked", image_mask="framed")
  text, vocab = published["llm_vocab_size"], words["vocab_size"]
  codec, codes, stride = tokenizer(published)
  c.codec.update(codec.codec)
  published.only("codebook_size", codes)
  published.only("vocab_size", text + len(MARKS) + codes + 1)
  published.only("mask_token_id", vocab - 1)
  ids = {name: text + i for i, name in enumerate(MARKS)}
  end = published.get(f"tokenizer.added.{END}", min(50_256, text - 1))
  marks = {name: ids[name] for name in ("<|t2i|>", "<|mmu|>")} | {END: end}
  rest = ("pad", "time", "user", "assistant")
  special = {"bos": end, "eos": end, "boi": ids["<|soi|>"], "eoi": ids["<|eoi|>"]}
  special |= dict.fromkeys(rest, ids["[PAD]"])
  size = isqrt(published["num_vq_tokens"]) * stride
  c.data.update(
    codec=f"codes:{codes}:{stride}", image_size=size, patch_size=1, vocab=vocab,
    special=tuple(special.items()), marks=tuple(marks.items()), chat=CHAT,
    pictures_first=True, fit="resize", resample="bicubic", noise_limit=0.0,
    images_per_row=4,
  )  # fmt: skip
  c.diffusion.update(time_law="uniform", time_shift=1.0)
  c.train.image_loss_weight = pi / 2  # of the mean over what is hidden
  steps, guidance = DRAWS.get(size, DRAWS[256])
  c.sample.update(
    steps=steps, guidance=1 + guidance, confidence_decay="product", max_text_tokens=100,
    stops=(),
  )  # fmt: skip
  return c


def tokenizer(published) -> tuple[ConfigDict, int, int]:
  """(config of the tokenizer of pictures, its codes, pixels of a code)."""
  told = {n: published[n] for n in magvit_v2.SIZES if n in published}
  usual = {**magvit_v2.PUBLISHED["8192"], **told}
  codec = magvit_v2.get_config(published.part("magvitv2.", **usual))
  return codec, 2**codec.codec.channels, 2 ** (len(codec.codec.multipliers) - 1)


def to_published(config) -> dict:
  """Both config.json, with sizes of the decoder, which the official code ignores."""
  words, pad = phi.to_published(config), dict(config.data.special)["pad"]
  for name in ("architectures", "model_type", "bos_token_id", "eos_token_id"):
    del words[name]
  return {
    "_class_name": "Showo", "llm_model_path": "microsoft/phi-1_5", "w_clip_vit": False,
    "llm_vocab_size": pad, "codebook_size": config.codebook,
    "num_vq_tokens": config.patches, "mask_token_id": config.data.vocab - 1,
    "head_dim": config.model.head_dim, **words,
    "magvitv2": magvit_v2.to_published(config),
  }  # fmt: skip


def _size(tokens: int) -> dict:
  return {
    "_class_name": "Showo", "llm_model_path": "microsoft/phi-1_5", "w_clip_vit": False,
    "llm_vocab_size": 50_295, "codebook_size": 8192, "num_vq_tokens": tokens,
    "mask_token_id": 58_497, "vocab_size": 58_498,
  }  # fmt: skip


PUBLISHED = {"256": _size(256), "512": _size(1024)}
PARAMETERS = dict.fromkeys(PUBLISHED, 1_448_176_770)  # the tokenizer has 95,387,004
