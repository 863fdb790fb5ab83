"""What Qwen2-VL and Qwen2.5-VL have in common: names, fields, words around pictures.

A picture keeps its shape: its sides are rounded to whole positions of 28 pixels, and
2 x 2 patches become one position. The decoder turns queries and keys by three numbers,
and those of what follows a picture go on behind its longer side. Rows and prompts are
those of the processor: `<|vision_start|>`, the picture, `<|vision_end|>`, with nothing
between it and the words of a turn.

A picture has at most `MOST` pixels, which is what the library's processor takes where
a release says nothing; preprocessor_config.json says 12.8 million, whose 65,536 patches
no dense attention holds. `data.native_pixels` raises it.
"""

from configs.released import _decoder, _parts, _towers
from unijax.interop.keymap import Key
from unijax.interop.ops import LINEAR, Part, Patches
from unijax.interop.told import axis, count

PREFIXES = {
  "text": ("model.", "model.language_model."),
  "head": ("",),
  "vision": ("visual.", "model.visual."),
}
MOST = 28 * 28 * 1280
IDS = {  # of marks, where config.json does not say
  "vision_start_token_id": 151_652, "vision_end_token_id": 151_653,
  "image_token_id": 151_655, "video_token_id": 151_656,
}  # fmt: skip
MARKS = {"<|image_pad|>": "image_token_id", "<|video_pad|>": "video_token_id"}
SECTIONS = (16, 24, 24)
MEAN, STD = _towers.PHOTOS
_BLOCK, _LAYER = "vision/encoder/blocks", "<vision>blocks.{i}"


def keys(*mlp) -> tuple[Key, ...]:
  """All keys; `mlp` are those of the feed-forward layers of the encoder."""
  fused, attention = f"{_LAYER}.attn", f"{_BLOCK}/attention"
  return (
    *_decoder.KEYS,
    Key("vision/patch/kernel", "<vision>patch_embed.proj.weight", Patches(frames=2)),
    *(
      key
      for number, name in enumerate("qkv")
      for key in (
        Key(f"{attention}/{name}/kernel", f"{fused}.qkv.weight", Part(number, LINEAR)),
        Key(f"{attention}/{name}/bias", f"{fused}.qkv.bias", Part(number)),
      )
    ),
    *_towers.linear(f"{attention}/out", f"{fused}.proj"),
    *(
      key
      for ours, theirs in mlp
      for key in _towers.linear(f"{_BLOCK}/mlp/{ours}", f"{_LAYER}.mlp.{theirs}")
    ),
    *_towers.norm(f"{_BLOCK}/attention_norm", f"{_LAYER}.norm1"),
    *_towers.norm(f"{_BLOCK}/mlp_norm", f"{_LAYER}.norm2"),
    *_towers.norm("vision/final_norm", "<vision>merger.ln_q"),
    *_towers.linear("connector/in", "<vision>merger.mlp.0"),
    *_towers.linear("connector/out", "<vision>merger.mlp.2"),
  )


def sizes(width: str) -> dict:
  """What files tell; `width` is the field of the encoder's."""
  return _parts.below("text_config.", _decoder.SIZES) | {
    f"vision_config.{width}": axis("<vision>patch_embed.proj.weight", 0),
    "vision_config.depth": count(f"{_LAYER}.norm1.weight"),
  }


def get_config(published, **vision):
  """Our config of one of them; `vision` are knobs that the encoder's kind decides."""
  for name, values in {
    "spatial_merge_size": (2,), "temporal_patch_size": (2,), "in_channels": (3,),
    "in_chans": (3,), "rope_parameters.rope_type": ("axial",),
    "rope_parameters.rope_theta": (10000.0,),
  }.items():  # fmt: skip
    published.only(f"vision_config.{name}", *values)
  words = decoder(published)
  words.only("hidden_act", "silu")
  words.only("use_sliding_window", False)
  c = _decoder.get_config(
    words, bias="qkv", norm_eps=words.get("rms_norm_eps", 1e-5), positions="grid",
    rope_sections=_sections(words), read="features", connector="merge",
  )  # fmt: skip
  patch = published.get("vision_config.patch_size", 14)
  c.vision.update(
    depth=published.get("vision_config.depth", 32),
    heads=published.get("vision_config.num_heads", 16), patch_size=patch, frames=2,
    patch_bias=False, positions="none", rope_grid=-1, pool="mean", norm_eps=1e-6,
    mean=tuple(published.get("preprocessor.image_mean", MEAN)),
    std=tuple(published.get("preprocessor.image_std", STD)), **vision,
  )  # fmt: skip
  c.align.objective = "none"
  prepared(published, c, patch)
  ids = {name: published.get(name, other) for name, other in IDS.items()}
  around = {"boi": ids["vision_start_token_id"], "eoi": ids["vision_end_token_id"]}
  c.data.special = tuple((dict(c.data.special) | around).items())
  c.data.marks = tuple((name, ids[field]) for name, field in MARKS.items())
  c.sample.update(sampling(published))
  return c


def decoder(published):
  """Fields of the decoder, which stand at the top of config.json in older files."""
  top = {n: x for n, x in published.items() if "." not in n or n.startswith("rope_")}
  words = _parts.decoder(published, **top)
  for name in ("rope_scaling.type", "rope_scaling.rope_type"):
    if words.get(name) == "mrope":  # plain rotations, by three positions
      words = words.given(**{name: "default"})
  return words


def _sections(words) -> tuple[int, ...]:
  old = words.get("rope_scaling.mrope_section", SECTIONS)
  return tuple(words.get("rope_parameters.mrope_section", old))


def prepared(published, c, patch: int) -> None:
  """How pictures are made ready, from either way to write it."""
  published.only("preprocessor.patch_size", patch)
  published.only("preprocessor.merge_size", 2)
  published.only("preprocessor.temporal_patch_size", 2)
  bounds = []
  for old, new, other in (
    ("min_pixels", "shortest_edge", 56 * 56), ("max_pixels", "longest_edge", MOST),
  ):  # fmt: skip
    size = published.get(f"preprocessor.size.{new}", other)
    bounds.append(published.get(f"preprocessor.{old}", size) or size)
  c.data.update(
    fit="native", native_pixels=(bounds[0], min(bounds[1], MOST)),
    resample=_towers.RESAMPLE[published.only("preprocessor.resample", 3, 2, 1)],
    image_frame="marked", noise_limit=0.0, images_per_row=4,
  )  # fmt: skip


def sampling(published) -> dict:
  """How generation_config.json draws words; greedily where it does not say."""
  if not published.get("generation.do_sample", False):
    return {}
  return {
    "temperature": float(published.get("generation.temperature", 1.0)),
    "top_k": int(published.get("generation.top_k", 50)),
    "top_p": float(published.get("generation.top_p", 1.0)),
  }


def to_published(config, kind: str, name: str, **vision) -> dict:
  """The config.json and preprocessor_config.json of transformers.

  Args:
    config: of ours.
    kind: `model_type`.
    name: of the class.
    **vision: fields of the encoder that its kind decides.
  """
  m, v, data = config.model, config.vision, config.data
  ids, marks = dict(data.special), dict(data.marks)
  words = _decoder.to_published(
    config, model_type=f"{kind}_text", hidden_act="silu", rms_norm_eps=m.norm_eps,
    use_sliding_window=False,
  )  # fmt: skip
  words["rope_parameters"]["mrope_section"] = list(m.rope_sections)
  eyes = {
    "model_type": f"{kind}_vision", "depth": v.depth, "num_heads": v.heads,
    "in_channels": 3, "patch_size": v.patch_size, "spatial_merge_size": 2,
    "temporal_patch_size": v.frames, **vision,
  }  # fmt: skip
  return {
    "architectures": [name], "model_type": kind, "dtype": "float32",
    "tie_word_embeddings": m.tie_embeddings,
    "vision_start_token_id": ids["boi"], "vision_end_token_id": ids["eoi"],
    **{field: marks[mark] for mark, field in MARKS.items()},
    "text_config": words, "vision_config": eyes,
    "preprocessor": {
      "image_processor_type": "Qwen2VLImageProcessor", "patch_size": v.patch_size,
      "merge_size": 2, "temporal_patch_size": v.frames, "resample": filters(data),
      "size": dict(
        zip(("shortest_edge", "longest_edge"), data.native_pixels, strict=True)
      ),
      "image_mean": list(v.mean), "image_std": list(v.std),
    },
  }  # fmt: skip


def filters(data) -> int:
  """Pillow's number of how pictures are resized."""
  return {name: number for number, name in _towers.RESAMPLE.items()}[data.resample]


def size(kind: str, vision, *, layers, width, heads, kv_heads, hidden, vocab, tied):
  """Fields of a released size."""
  return {
    "model_type": kind, "tie_word_embeddings": tied, **IDS,
    "text_config": {
      "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
      "num_key_value_heads": kv_heads, "intermediate_size": hidden, "vocab_size": vocab,
      "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied,
      "max_position_embeddings": 32768, "bos_token_id": 151643, "eos_token_id": 151645,
      "rope_scaling": {"type": "mrope", "mrope_section": list(SECTIONS)},
    },
    "vision_config": {"patch_size": 14, "depth": 32, "num_heads": 16, **vision},
  }  # fmt: skip


SMALL = dict(
  layers=28, width=1536, heads=12, kv_heads=2, hidden=8960, vocab=151_936, tied=True
)
MIDDLE = dict(
  layers=28, width=3584, heads=28, kv_heads=4, hidden=18944, vocab=152_064, tied=False
)
