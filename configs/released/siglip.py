"""SigLIP (Zhai et al. 2023) and SigLIP 2 of one size of pictures (Tschannen 2025).

  unijax import siglip FOLDER --out=runs/siglip

Read are folders of transformers: SiglipModel, and SiglipVisionModel (with and without
`vision_model.` before its names; also without its head). Texts are made lower case, and
those of the first lose their punctuation, as in training.
"""

from ml_collections import ConfigDict

from configs.released import _towers
from configs.released.clip import DROPS, PREFIXES  # noqa: F401 (of this system, too)
from unijax.interop.keymap import Key
from unijax.interop.ops import COPY, LINEAR, Ones, Part, Patches
from unijax.interop.told import axis, count, present

_HEAD = "<vision>head.attention"


def tower(out="out_proj"):
  """Keys of the pictures' tower without its head; `out` is what follows attention."""
  place = "<vision>embeddings"
  return (
    Key("vision/position", f"{place}.position_embedding.weight"),
    *_towers.linear("vision/patch", f"{place}.patch_embedding", op=Patches()),
    *_towers.split_blocks("vision", "<vision>", out),
    *_towers.norm("vision/final_norm", "<vision>post_layernorm"),
  )


def original(group: str):
  """Keys of the same tower by the names of its first repository, whose queries, keys
  and values are one matrix; `group` is what stands before them."""
  to, of = "vision/encoder/blocks", f"{group}blocks.{{i}}"
  keys = ()
  for number, name in enumerate("qkv"):
    for leaf, theirs, op in (("kernel", "weight", LINEAR), ("bias", "bias", COPY)):
      here = f"{to}/attention/{name}/{leaf}"
      keys += (Key(here, f"{of}.attn.qkv.{theirs}", Part(number, op)),)
  return (
    Key("vision/position", f"{group}pos_embed", Ones(1)),
    *_towers.linear("vision/patch", f"{group}patch_embed.proj", op=Patches()),
    *keys,
    *_towers.linear(f"{to}/attention/out", f"{of}.attn.proj"),
    *_towers.norm(f"{to}/attention_norm", f"{of}.norm1"),
    *_towers.norm(f"{to}/mlp_norm", f"{of}.norm2"),
    *_towers.linear(f"{to}/mlp/up", f"{of}.mlp.fc1"),
    *_towers.linear(f"{to}/mlp/down", f"{of}.mlp.fc2"),
    *_towers.norm("vision/final_norm", f"{group}norm"),
  )


KEYS = (
  *tower(),
  Key("vision/pool/probe", "<vision>head.probe", Ones(1)),
  *(
    Key(f"vision/pool/attention/{name}/{ours}", f"{_HEAD}.in_proj_{theirs}", op)
    for number, name in enumerate("qkv")
    for ours, theirs, op in (
      ("kernel", "weight", Part(number, LINEAR)),
      ("bias", "bias", Part(number)),
    )
  ),
  *_towers.linear("vision/pool/attention/out", f"{_HEAD}.out_proj"),
  *_towers.norm("vision/pool/norm", "<vision>head.layernorm"),
  *_towers.linear("vision/pool/mlp/up", "<vision>head.mlp.fc1"),
  *_towers.linear("vision/pool/mlp/down", "<vision>head.mlp.fc2"),
  *_towers.text(),
  *_towers.linear("text_projection", "<text>head"),
  Key("log_scale", "logit_scale", Ones(1)),
  Key("bias", "logit_bias", Ones(1)),
)
SIZES = {
  "has_head": present("<vision>head.probe"),
  "text_config.vocab_size": axis("<text>embeddings.token_embedding.weight", 0),
  "text_config.num_hidden_layers": count("<text>encoder.layers.{i}.layer_norm1.weight"),
}
SECOND = 256_000  # rows of the token table of SigLIP 2


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  prefix, both = _towers.one_sided(published, "siglip")

  def read(name, default):
    return published.get(f"{prefix}{name}", default)

  c = _towers.config(read("image_size", 224), _towers.HALF, published, squeeze=True)
  head = published.get("has_head", read("vision_use_head", True))
  c.vision.update(
    **_towers.shape(published, prefix, 12, 768, 12, 3072),
    pool="attention" if head else "mean", crop=True,
    patch_size=read("patch_size", 16), norm_eps=read("layer_norm_eps", 1e-6),
    mlp=_towers.activation(published, f"{prefix}hidden_act", "gelu_pytorch_tanh"),
  )  # fmt: skip
  published.only(f"{prefix}num_channels", 3)
  if not both:
    return _towers.alone(c)
  of = "text_config."
  vocab = published.get(f"{of}vocab_size", 32_000)
  c.text.update(
    **_towers.shape(published, of, 12, 768, 12, 3072),
    causal=False, pool="last", vocab=vocab, bos=False,
    canonical="lower" if vocab == SECOND else "words",
    length=published.get(f"{of}max_position_embeddings", 64),
    norm_eps=published.get(f"{of}layer_norm_eps", 1e-6),
    mlp=_towers.activation(published, f"{of}hidden_act", "gelu_pytorch_tanh"),
  )  # fmt: skip
  _towers.marks(c, 1, 1, 0 if vocab == SECOND else 1)
  width = published.get(f"{of}projection_size", c.text.width)
  c.align.update(objective="sigmoid", scale=10.0, max_scale=1000.0, bias=-10.0)
  c.align.update(image_projection="none", text_projection="bias", width=width)
  return c


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers."""
  v, t = config.vision, config.text
  marks = _towers.marked(config)
  prepared = _towers.preprocessor(config, "SiglipImageProcessor")
  pictures = {
    "model_type": "siglip_vision_model", **_towers.plain(v), "num_channels": 3,
    "patch_size": v.patch_size, "image_size": config.data.image_size,
    "vision_use_head": v.pool == "attention",
  }  # fmt: skip
  if config.align.objective == "none":
    kind = {"architectures": ["SiglipVisionModel"]}
    return {**kind, **pictures, "preprocessor": prepared}
  words = {
    "model_type": "siglip_text_model", **_towers.plain(t), "vocab_size": t.vocab,
    "max_position_embeddings": t.length, "projection_size": config.align.width,
    "eos_token_id": marks["eos"], "pad_token_id": marks["pad"],
  }  # fmt: skip
  return {
    "architectures": ["SiglipModel"], "model_type": "siglip",
    "vision_config": pictures, "text_config": words, "preprocessor": prepared,
  }  # fmt: skip


def _size(image, patch, depth, width, heads, mlp, **text):
  sides = {
    "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads,
    "intermediate_size": mlp,
  }  # fmt: skip
  return {
    "model_type": "siglip",
    "vision_config": {**sides, "image_size": image, "patch_size": patch},
    "text_config": {**sides, **text},
  }


PUBLISHED = {
  "B-16": _size(224, 16, 12, 768, 12, 3072),
  "L-16-384": _size(384, 16, 24, 1024, 16, 4096),
  "so400m-14-384": _size(384, 14, 27, 1152, 16, 4304),
  "so400m-14-384-2": _size(384, 14, 27, 1152, 16, 4304, vocab_size=SECOND),
}
PARAMETERS = {
  "B-16": 203_155_970, "L-16-384": 652_478_466, "so400m-14-384": 877_960_498,
  "so400m-14-384-2": 1_136_008_498,
}  # fmt: skip
