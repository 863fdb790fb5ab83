"""What released encoders of pictures and words share: keys of a transformer, sizes."""

import dataclasses

from configs import base, clip
from unijax.data.tokenizer import make_tokenizer, vocabulary
from unijax.interop.keymap import Key
from unijax.interop.ops import COPY, LINEAR

# Means and deviations of red, green and blue, where white is 1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PHOTOS = (clip.MEAN, clip.STD)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def linear(ours, *theirs, bias=True, op=LINEAR):
  """Kernel and bias of a linear map; `theirs` are alternatives."""
  weight = Key(f"{ours}/kernel", tuple(f"{name}.weight" for name in theirs), op)
  if not bias:
    return (weight,)
  return weight, Key(f"{ours}/bias", tuple(f"{name}.bias" for name in theirs))


def norm(ours, *theirs):
  """Scale and bias of a layer norm."""
  return (
    Key(f"{ours}/scale", tuple(f"{name}.weight" for name in theirs)),
    Key(f"{ours}/bias", tuple(f"{name}.bias" for name in theirs)),
  )


def split_blocks(ours, theirs, out="out_proj"):
  """Blocks with a matrix each for queries, keys and values (transformers); `out` is
  what follows attention."""
  to, of = f"{ours}/encoder/blocks", f"{theirs}encoder.layers.{{i}}"
  keys = ()
  for name in "qkv":
    keys += linear(f"{to}/attention/{name}", f"{of}.self_attn.{name}_proj")
  keys += linear(f"{to}/attention/out", f"{of}.self_attn.{out}")
  return (
    *keys,
    *norm(f"{to}/attention_norm", f"{of}.layer_norm1"),
    *norm(f"{to}/mlp_norm", f"{of}.layer_norm2"),
    *linear(f"{to}/mlp/up", f"{of}.mlp.fc1"),
    *linear(f"{to}/mlp/down", f"{of}.mlp.fc2"),
  )


def text(prefix="<text>"):
  """The tower of words of transformers; its projection has another name each time."""
  return (
    Key("text/embedding/table", f"{prefix}embeddings.token_embedding.weight", COPY),
    Key("text/position", f"{prefix}embeddings.position_embedding.weight", COPY),
    *split_blocks("text", prefix),
    *norm("text/final_norm", f"{prefix}final_layer_norm"),
  )


def one_sided(published, kind: str) -> tuple[str, bool]:
  """(before the fields of the pictures' tower, whether there are words).

  Towers of pictures are also released alone, with their fields at the top.
  """
  alone = published.get("model_type", kind) == f"{kind}_vision_model"
  return ("", False) if alone else ("vision_config.", True)


RESAMPLE = {3: "bicubic", 2: "bilinear", 1: "lanczos"}  # Pillow's numbers


def config(size: int, normal, published, squeeze=False, short=0):
  """Our config of an encoder of pictures, prepared as its preprocessor says.

  Args:
    size: pixels a side.
    normal: mean and deviation that are taken off, and divided by.
    published: of the release.
    squeeze: all of a picture is made a square, where nothing is said.
    short: pixels of the shorter side before, likewise; 0: as many.
  """
  c = base.get_config()
  c.train.task = "alignment"
  c.data.image_size = size
  mean, std = normal
  c.vision.mean = tuple(published.get("preprocessor.image_mean", mean))
  c.vision.std = tuple(published.get("preprocessor.image_std", std))
  c.data.resample = RESAMPLE[published.only("preprocessor.resample", *RESAMPLE)]
  short = published.get("preprocessor.size.shortest_edge", short or size)
  whole = published.get("preprocessor.size.height", None) is not None or squeeze
  c.data.fit = "squeeze" if whole else "resize"
  c.data.resize = 0 if whole or short == size else short
  c.data.tokenizer = published.get("tokenizer.file", "bytes")
  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": {}}
  c.train.update(batch_size=8)
  c.eval.update(loss_batches=1, batch_size=8)
  return c


def preprocessor(config, kind: str) -> dict:
  """What preprocessor_config.json says of our pictures; `kind` is the library's."""
  data, v = config.data, config.vision
  size, crop = data.image_size, data.fit != "squeeze"
  square = {"height": size, "width": size}
  sizes = {"crop_size": square, "size": {"shortest_edge": data.resize or size}}
  filters = {name: number for number, name in RESAMPLE.items()}
  return {
    "image_processor_type": kind, "image_mean": list(v.mean), "image_std": list(v.std),
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "rescale_factor": 1 / 255, "resample": filters[data.resample],
    "do_center_crop": crop,
    **(sizes if crop else {"size": square}),
  }  # fmt: skip


def marks(c, bos, eos, pad) -> None:
  """Ids of the tokenizer that stand around texts."""
  c.data.special = (("pad", pad), ("bos", bos), ("eos", eos))


def marked(config) -> dict[str, int]:
  """The inverse of `marks`: ids by name, also of a run that was trained here."""
  if config.data.special:
    return dict(config.data.special)
  known = vocabulary(make_tokenizer(config.data.tokenizer))
  return dataclasses.asdict(known.special)


def alone(c):
  """The same where there are no words."""
  c.data.tokenizer = "bytes"
  c.align.update(objective="none")
  return c


def shape(published, prefix: str, heads, width, depth, mlp):
  """Depth, width, heads and hidden units of a tower; the numbers are defaults."""

  def read(name, default):
    return published.get(f"{prefix}{name}", default)

  return dict(
    heads=read("num_attention_heads", heads),
    width=read("hidden_size", width),
    depth=read("num_hidden_layers", depth),
    mlp_width=read("intermediate_size", mlp),
  )


def plain(tower) -> dict:
  """The inverse of `shape`."""
  return {
    "num_attention_heads": tower.heads,
    "hidden_size": tower.width,
    "num_hidden_layers": tower.depth,
    "intermediate_size": tower.mlp_width,
    "layer_norm_eps": tower.norm_eps,
    "hidden_act": ACTIVATIONS_BACK[tower.mlp],
  }


ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_pytorch_tanh": "gelu_tanh",
  "gelu_new": "gelu_tanh",
  "quick_gelu": "quick_gelu",
}
ACTIVATIONS_BACK = {
  "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu",
}  # fmt: skip


def activation(published, name: str, default: str) -> str:
  """Our name of an activation."""
  return ACTIVATIONS[published.only(name, *ACTIVATIONS, default=default)]
