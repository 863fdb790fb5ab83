"""DINOv2 (Oquab et al. 2023), also with registers (Darcet et al. 2024): pictures alone.

  unijax import dinov2 FOLDER --out=runs/dinov2

Read are folders of transformers (Dinov2Model, Dinov2WithRegistersModel; names on disk,
in memory, or below `dinov2.` of a classifier) and the original layout. Pictures are as
large as preprocessor_config.json crops them; the table of positions keeps its grid.
"""

from ml_collections import ConfigDict

from configs.released import _towers
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import LINEAR, Ones, Part, Patches
from unijax.interop.told import axis, count, present

PREFIXES = {"vision": ("", "dinov2.", "dinov2_with_registers.")}
DROPS = (Drop("classifier.weight"), Drop("classifier.bias"))
_BLOCK, _LAYER = "vision/encoder/blocks", "<vision>encoder.layer.{i}"
_OLD = "<vision>blocks.{i}"


def _attention():
  keys = ()
  names = {"q": ("query", "q"), "k": ("key", "k"), "v": ("value", "v")}
  for number, (name, (long, short)) in enumerate(names.items()):
    disk = f"{_LAYER}.attention.attention.{long}"
    memory = f"{_LAYER}.attention.{short}_proj"
    for ours, theirs, op in (
      ("kernel", "weight", Part(number, LINEAR)),
      ("bias", "bias", Part(number)),
    ):
      fused = f"{_OLD}.attn.qkv.{theirs}"
      alternatives = f"{disk}.{theirs}", f"{memory}.{theirs}", fused
      keys += (Key(f"{_BLOCK}/attention/{name}/{ours}", alternatives, op),)
  return (
    *keys,
    *_towers.linear(
      f"{_BLOCK}/attention/out", f"{_LAYER}.attention.output.dense",
      f"{_LAYER}.attention.o_proj", f"{_OLD}.attn.proj",
    ),
  )  # fmt: skip


def _gated(number: int, ours: str, memory: str):
  """One half of a gated map: fused, or alone as it is in memory."""
  return tuple(
    Key(
      f"{_BLOCK}/mlp/{ours}/{kind}",
      (
        f"{_LAYER}.mlp.weights_in.{theirs}",
        f"{_LAYER}.mlp.{memory}.{theirs}",
        f"{_OLD}.mlp.w12.{theirs}",
      ),
      op,
    )
    for kind, theirs, op in (
      ("kernel", "weight", Part(number, LINEAR)),
      ("bias", "bias", Part(number)),
    )
  )


def _mlp(gated: bool):
  if not gated:
    return (
      *_towers.linear(f"{_BLOCK}/mlp/up", f"{_LAYER}.mlp.fc1", f"{_OLD}.mlp.fc1"),
      *_towers.linear(f"{_BLOCK}/mlp/down", f"{_LAYER}.mlp.fc2", f"{_OLD}.mlp.fc2"),
    )
  out = f"{_LAYER}.mlp.weights_out", f"{_LAYER}.mlp.down_proj", f"{_OLD}.mlp.w3"
  return (
    *_gated(0, "gate", "gate_proj"),
    *_gated(1, "up", "up_proj"),
    *_towers.linear(f"{_BLOCK}/mlp/down", *out),
  )


def KEYS(config):
  """All keys; those of the gated layer are others."""
  into = "<vision>embeddings."
  return (
    Key("vision/class", (f"{into}cls_token", "<vision>cls_token"), Ones(1)),
    Key("vision/mask", (f"{into}mask_token", "<vision>mask_token"), Ones(1)),
    Key(
      "vision/registers",
      (f"{into}register_tokens", "<vision>register_tokens"),
      Ones(1),
    ),
    Key(
      "vision/position", (f"{into}position_embeddings", "<vision>pos_embed"), Ones(1)
    ),
    *_towers.linear(
      "vision/patch",
      f"{into}patch_embeddings.projection",
      "<vision>patch_embed.proj",
      op=Patches(),
    ),
    *_towers.norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.norm1", f"{_OLD}.norm1"),
    *_attention(),
    Key(
      f"{_BLOCK}/attention_scale",
      (f"{_LAYER}.layer_scale1.lambda1", f"{_OLD}.ls1.gamma"),
    ),
    *_towers.norm(f"{_BLOCK}/mlp_norm", f"{_LAYER}.norm2", f"{_OLD}.norm2"),
    *_mlp(config.vision.mlp == "swiglu"),
    Key(f"{_BLOCK}/mlp_scale", (f"{_LAYER}.layer_scale2.lambda1", f"{_OLD}.ls2.gamma")),
    *_towers.norm("vision/final_norm", "<vision>layernorm", "<vision>norm"),
  )


SIZES = {
  "num_hidden_layers": count((f"{_LAYER}.norm1.weight", f"{_OLD}.norm1.weight")),
  "hidden_size": axis(("<vision>layernorm.weight", "<vision>norm.weight"), 0),
  "use_mask_token": present(
    ("<vision>embeddings.mask_token", "<vision>mask_token")
  ),
}  # fmt: skip


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  width, patch = published["hidden_size"], published.get("patch_size", 14)
  trained = published.get("image_size", 224)
  kind = published.only("model_type", "dinov2", "dinov2_with_registers")
  registers = published.get("num_register_tokens", 4) if kind != "dinov2" else 0
  old = published.get("preprocessor.crop_size", trained)  # a number in old files
  crop = published.get("preprocessor.crop_size.height", old)
  gated = published.get("use_swiglu_ffn", False)
  hidden = int(width * published.get("mlp_ratio", 4))
  c = _towers.alone(
    _towers.config(crop, _towers.IMAGENET, published, short=crop * 8 // 7)
  )
  c.vision.update(
    width=width, depth=published["num_hidden_layers"],
    heads=published["num_attention_heads"], patch_size=patch, crop=True,
    # Two thirds of the plain layer's, rounded up to a multiple of 8.
    mlp_width=(int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden,
    mlp="swiglu" if gated else _towers.activation(published, "hidden_act", "gelu"),
    norm_eps=published.get("layer_norm_eps", 1e-6), pool="class",
    qkv_bias="all" if published.get("qkv_bias", True) else "none",
    layer_scale=published.get("layerscale_value", 1.0), registers=registers,
    mask_token=published.get("use_mask_token", True), position_grid=trained // patch,
    position_resize="smooth" if registers else "bicubic",
  )  # fmt: skip
  return c


def to_published(config) -> dict:
  """The config.json and preprocessor_config.json of transformers.

  The ratio of widths that it has instead of hidden units gives these back rounded.
  """
  v, gated = config.vision, config.vision.mlp == "swiglu"
  hidden = v.mlp_width * 3 / 2 if gated else v.mlp_width
  kind = "dinov2_with_registers" if v.registers else "dinov2"
  known = {"num_register_tokens": v.registers} if v.registers else {}
  grid = v.position_grid or config.data.image_size // v.patch_size
  return {
    "architectures": ["Dinov2WithRegistersModel" if v.registers else "Dinov2Model"],
    "model_type": kind, "hidden_size": v.width, "num_hidden_layers": v.depth,
    "num_attention_heads": v.heads, "mlp_ratio": _ratio(hidden, v.width),
    "hidden_act": "gelu" if gated else _towers.ACTIVATIONS_BACK[v.mlp],
    "layer_norm_eps": v.norm_eps, "image_size": grid * v.patch_size,
    "patch_size": v.patch_size, "num_channels": 3, "qkv_bias": v.qkv_bias == "all",
    "layerscale_value": v.layer_scale, "use_swiglu_ffn": gated,
    "use_mask_token": v.mask_token, **known,
    "preprocessor": _towers.preprocessor(config, "BitImageProcessor"),
  }  # fmt: skip


def _ratio(hidden: float, width: int) -> int | float:
  whole = round(hidden / width)
  return whole if int(whole * width) == int(hidden) else hidden / width


def _size(width, depth, heads, **more):
  return {
    "model_type": "dinov2", "image_size": 518, "patch_size": 14, "hidden_size": width,
    "num_hidden_layers": depth, "num_attention_heads": heads, **more,
    "preprocessor": {"crop_size": {"height": 224}},
  }  # fmt: skip


_REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 4}
PUBLISHED = {
  "S": _size(384, 12, 6), "B": _size(768, 12, 12), "L": _size(1024, 24, 16),
  "g": _size(1536, 40, 24, use_swiglu_ffn=True),
  "L-registers": _size(1024, 24, 16, **_REGISTERS),
}  # fmt: skip
PARAMETERS = {
  "S": 22_056_576, "B": 86_580_480, "L": 304_368_640, "g": 1_136_480_768,
  "L-registers": 304_372_736,
}  # fmt: skip
