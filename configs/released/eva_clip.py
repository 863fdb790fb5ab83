"""EVA-CLIP (Sun et al. 2023) and EVA-02-CLIP (Fang et al. 2023): both towers.

  unijax import eva_clip model.safetensors --size=L-14-336 --out=runs/eva

Released are pickles, which are converted first, apart from this. Read is their layout;
fields are those of its model configs. EVA-02 turns queries and keys by row and column,
in pairs of neighbours, which are moved half a head apart here.
"""

import math

import numpy as np
from ml_collections import ConfigDict

from configs.released import _towers
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import COPY, LINEAR, Ones, Part, Patches, RopePairs
from unijax.interop.told import axis, count

TRAINED = 16  # patches a side that its rotations count in
PREFIXES = {"all": ("", "module.", "model.")}
_BLOCK, _THEIRS = "vision/encoder/blocks", "<all>visual.blocks.{i}"


def rotations(wave):
  """What a file may hold of its rotations: [patches, channels of a head]."""

  def table(shape):
    grid, quarter = math.isqrt(shape[0]), shape[1] // 4
    speed = 10000.0 ** -(np.arange(quarter) / quarter)
    angle = np.arange(grid)[:, None] * TRAINED / grid * speed
    angle = np.repeat(angle, 2, axis=1)
    rows = np.broadcast_to(angle[:, None], (grid, grid, 2 * quarter))
    columns = np.broadcast_to(angle[None], (grid, grid, 2 * quarter))
    return wave(np.concatenate([rows, columns], axis=-1)).reshape(shape)

  return table


DROPS = tuple(
  Drop(f"{of}rope.freqs_{name}", rotations(wave))
  for of in ("<all>visual.", f"{_THEIRS}.attn.")
  for name, wave in (("cos", np.cos), ("sin", np.sin))
)


def _attention(config):
  v = config.vision
  turned = (lambda op: RopePairs(v.width // v.heads, op)) if v.rope_grid else (
    lambda op: op
  )  # fmt: skip
  keys = ()
  for number, name in enumerate("qkv"):
    turn = turned if name in "qk" else lambda op: op
    names = f"{_THEIRS}.attn.{name}_proj.weight", f"{_THEIRS}.attn.qkv.weight"
    names = names if v.rope_grid else names[::-1]
    kernel = Part(number, turn(LINEAR))
    keys += (Key(f"{_BLOCK}/attention/{name}/kernel", names, kernel),)
    bias = Key(
      f"{_BLOCK}/attention/{name}/bias", f"{_THEIRS}.attn.{name}_bias", turn(COPY)
    )
    keys += (bias,)
  return (
    *keys,
    *_towers.norm(f"{_BLOCK}/attention/sub_norm", f"{_THEIRS}.attn.inner_attn_ln"),
    *_towers.linear(f"{_BLOCK}/attention/out", f"{_THEIRS}.attn.proj"),
  )


def _mlp(gated: bool):
  into, out = (("gate", "w1"), ("up", "w2")), "w3"
  if not gated:
    into, out = (("up", "fc1"),), "fc2"
  keys = ()
  for ours, theirs in into:
    keys += _towers.linear(f"{_BLOCK}/mlp/{ours}", f"{_THEIRS}.mlp.{theirs}")
  return (
    *keys,
    *_towers.norm(f"{_BLOCK}/mlp/sub_norm", f"{_THEIRS}.mlp.ffn_ln"),
    *_towers.linear(f"{_BLOCK}/mlp/down", f"{_THEIRS}.mlp.{out}"),
  )


def _text():
  """The tower of words: OpenCLIP's names."""
  to, of = "text/encoder/blocks", "<all>text.transformer.resblocks.{i}"
  fused = ()
  for number, name in enumerate("qkv"):
    at = f"{to}/attention/{name}"
    fused += (
      Key(f"{at}/kernel", f"{of}.attn.in_proj_weight", Part(number, LINEAR)),
      Key(f"{at}/bias", f"{of}.attn.in_proj_bias", Part(number)),
    )
  return (
    Key("text/embedding/table", "<all>text.token_embedding.weight"),
    Key("text/position", "<all>text.positional_embedding"),
    *fused,
    *_towers.linear(f"{to}/attention/out", f"{of}.attn.out_proj"),
    *_towers.norm(f"{to}/attention_norm", f"{of}.ln_1"),
    *_towers.norm(f"{to}/mlp_norm", f"{of}.ln_2"),
    *_towers.linear(f"{to}/mlp/up", f"{of}.mlp.c_fc"),
    *_towers.linear(f"{to}/mlp/down", f"{of}.mlp.c_proj"),
    *_towers.norm("text/final_norm", "<all>text.ln_final"),
    Key("text_projection/kernel", "<all>text.text_projection"),
  )


def KEYS(config):
  """All keys of a config."""
  return (
    Key("vision/class", "<all>visual.cls_token", Ones(1)),
    Key("vision/position", "<all>visual.pos_embed", Ones(1)),
    *_towers.linear("vision/patch", "<all>visual.patch_embed.proj", op=Patches()),
    *_towers.norm(f"{_BLOCK}/attention_norm", f"{_THEIRS}.norm1"),
    *_attention(config),
    *_towers.norm(f"{_BLOCK}/mlp_norm", f"{_THEIRS}.norm2"),
    *_mlp(config.vision.mlp == "swiglu"),
    *_towers.norm("vision/final_norm", "<all>visual.norm"),
    *_towers.linear("image_projection", "<all>visual.head"),
    *_text(),
    Key("log_scale", "<all>logit_scale"),
  )


SIZES = {
  "embed_dim": axis("<all>visual.head.weight", 0),
  "vision_cfg.layers": count(f"{_THEIRS}.norm1.weight"),
  "vision_cfg.width": axis("<all>visual.norm.weight", 0),
  "text_cfg.width": axis("<all>text.ln_final.weight", 0),
  "text_cfg.layers": count("<all>text.transformer.resblocks.{i}.ln_1.weight"),
}


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  v, t = "vision_cfg.", "text_cfg."
  size, width = published[f"{v}image_size"], published[f"{v}width"]
  c = _towers.config(size, _towers.PHOTOS, published)
  rope = published.get(f"{v}rope", False)
  gated, sub = (published.get(f"{v}{n}", False) for n in ("naiveswiglu", "subln"))
  if rope:
    published.only(f"{v}pt_hw_seq_len", TRAINED)
    published.only(f"{v}intp_freq", True)
  c.vision.update(
    width=width, depth=published[f"{v}layers"],
    heads=width // published[f"{v}head_width"],
    mlp_width=math.floor(width * published[f"{v}mlp_ratio"] + 1e-6),
    mlp="swiglu" if gated else "gelu", sub_norm=sub, rope_grid=TRAINED * rope,
    norm="branch" if published.get(f"{v}postnorm", False) else "pre",
    patch_size=published[f"{v}patch_size"], qkv_bias="query_value", norm_eps=1e-6,
    pool="class", crop=True,
  )  # fmt: skip
  vocab = published.get(f"{t}vocab_size", 49408)
  c.text.update(
    width=published[f"{t}width"], depth=published[f"{t}layers"],
    heads=published[f"{t}heads"], mlp_width=4 * published[f"{t}width"], mlp="gelu",
    norm_eps=1e-5, causal=True, pool="eos", vocab=vocab,
    length=published.get(f"{t}context_length", 77),
  )  # fmt: skip
  _towers.marks(c, vocab - 2, vocab - 1, 0)
  c.align.update(width=published["embed_dim"], image_projection="bias")
  return c


def to_published(config) -> dict:
  """The model config of its repository."""
  v, t = config.vision, config.text
  rope = {"rope": True, "pt_hw_seq_len": TRAINED, "intp_freq": True}
  return {
    "embed_dim": config.align.width,
    "vision_cfg": {
      "image_size": config.data.image_size, "layers": v.depth, "width": v.width,
      "head_width": v.width // v.heads, "mlp_ratio": v.mlp_width / v.width,
      "patch_size": v.patch_size, "postnorm": v.norm == "branch",
      "naiveswiglu": v.mlp == "swiglu", "subln": v.sub_norm,
      **(rope if v.rope_grid else {}),
    },
    "text_cfg": {
      "context_length": t.length, "vocab_size": t.vocab, "width": t.width,
      "heads": t.heads, "layers": t.depth,
    },
  }  # fmt: skip


_SECOND = {
  "rope": True, "pt_hw_seq_len": TRAINED, "intp_freq": True, "naiveswiglu": True,
  "subln": True, "head_width": 64, "mlp_ratio": 2.6667,
}  # fmt: skip


def _size(shared, image, patch, width, layers, text, **more):
  vision = {"image_size": image, "patch_size": patch, "width": width, "layers": layers}
  words = dict(zip(("width", "heads", "layers"), text, strict=True))
  return {
    "embed_dim": shared, "vision_cfg": {**vision, **more}, "text_cfg": words,
  }  # fmt: skip


PUBLISHED = {
  "B-16": _size(512, 224, 16, 768, 12, (512, 8, 12), **_SECOND),
  "L-14-336": _size(768, 336, 14, 1024, 24, (768, 12, 12), **_SECOND),
  "g-14": _size(
    1024, 224, 14, 1408, 40, (768, 12, 12), head_width=88, mlp_ratio=4.3637
  ),
  "bigE-14-plus": _size(
    1024, 224, 14, 1792, 64, (1280, 20, 32), head_width=112,
    mlp_ratio=8.571428571428571, postnorm=True,
  ),
}  # fmt: skip
PARAMETERS = {
  "B-16": 149_691_137, "L-14-336": 428_083_137, "g-14": 1_136_435_841,
  "bigE-14-plus": 5_044_889_089,
}  # fmt: skip
