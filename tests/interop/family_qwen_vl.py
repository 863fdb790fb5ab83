"""Qwen2-VL and Qwen2.5-VL of transformers against ours: features, logits, answers.

Pictures are of several shapes, and some of none that an encoder can read: both sides
make them ready from the same pixels, theirs with its processor.
"""

import json
import pathlib

import numpy as np

from tests.interop import family_decoders, numbers
from tests.interop.cases import Case, Wrong, loaded

# Height and width; 256 to 1024 pixels are read, 4 to 16 positions.
PICTURES = ((24, 40), (9, 61), (9, 7), (60, 47))
BEGIN, END, IMAGE, FILM = 257, 258, 259, 260
# Numbers are pictures.
ROWS = (("a red", 0, " dog, ", 1, 2, "?"), ("What", 3, " is blue?"))
# Twelve positions each, in grids of their own, so that what follows begins elsewhere.
ASKED = (("Who ", 0, "is it?"), ("Is it", 1, " red?"))
SHAPES = ((48, 16), (24, 32))
CLASSES = {
  "qwen2_vl": "Qwen2VLForConditionalGeneration",
  "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}
PREPARED = {
  "size": {"shortest_edge": 256, "longest_edge": 1024}, "patch_size": 4, "merge_size": 2,
  "temporal_patch_size": 2,
}  # fmt: skip


def classes(kind):
  import transformers

  return getattr(transformers, CLASSES[kind])


def build(published):
  model = classes(published["model_type"])
  known = {n: x for n, x in published.items() if n != "preprocessor"}
  return model(model.config_class.from_dict(known))


def load(folder):
  kind = json.loads((pathlib.Path(folder) / "config.json").read_text())["model_type"]
  return loaded(classes(kind), folder, attn_implementation="eager")


def other_names(published, forms):
  """Names in memory."""

  def inner(name):
    if name.startswith("visual."):
      return f"model.{name}"
    return name.replace("model.", "model.language_model.")

  return {"memory": {name: (inner(name), shape) for name, (_, shape) in forms.items()}}


def pictures(shapes):
  """uint8 pictures of these heights and widths."""
  made = [numbers.picture(f"picture {i}", *s, 3) for i, s in enumerate(shapes)]
  return [(127.5 + 127.5 * x).astype(np.uint8) for x in made]


def ids(row, counts) -> list[int]:
  """What a processor makes of a row."""
  found = []
  for part in row:
    if isinstance(part, int):
      found += [BEGIN, *[IMAGE] * counts[part], END]
    else:
      found += list(part.encode())
  return found


def peer(model, inputs):
  import torch
  from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
  )

  rows, shapes = (ASKED, SHAPES) if "asked" in inputs else (ROWS, PICTURES)
  ready = Qwen2VLImageProcessorPil(**PREPARED)(pictures(shapes), return_tensors="pt")
  grid = ready["image_grid_thw"]
  tokens = [ids(row, (grid.prod(1) // 4).tolist()) for row in rows]
  longest = max(map(len, tokens))
  real = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in tokens])
  tokens = torch.tensor([[0] * (longest - len(x)) + x for x in tokens])
  given = dict(
    input_ids=tokens, attention_mask=real, mm_token_type_ids=(tokens == IMAGE).int(),
    pixel_values=ready["pixel_values"], image_grid_thw=grid,
  )  # fmt: skip
  if "asked" in inputs:
    model.generation_config.eos_token_id = None
    written = model.generate(
      **given, do_sample=False, max_new_tokens=family_decoders.WRITTEN, use_cache=True,
      pad_token_id=0,
    )  # fmt: skip
    return {"tokens": written[:, longest:].numpy()}
  seen = model.model.visual(ready["pixel_values"], grid_thw=grid).pooler_output
  logits = model(**given).logits[real.bool()]
  return {"features": seen.numpy(), "logits": logits.numpy()}


def layouts(builder, config, rows, shapes):
  """Rows as our interleaver has them, with nothing before them and after their end."""
  from PIL import Image as Picture

  from unijax.data import images
  from unijax.data.document import Document, Text
  from unijax.infer.prompts import picture

  prepare = images.prepare_of(config)
  ready = [
    picture(images.square(Picture.fromarray(x), 0, prepare)) for x in pictures(shapes)
  ]
  part = lambda x: ready[x] if isinstance(x, int) else Text(x)
  made = [Document(tuple(map(part, row)), id=0) for row in rows]
  begun = [builder.layout(d, open_end=True, without_text=False) for d in made]
  return [x.part(1, len(x)) for x in begun]  # without BOS


def features(config, params, batch):
  """What stands at the positions of pictures, of all rows."""
  import jax

  from unijax.nn import reading
  from unijax.nn.vision import normalised

  encoder, connector = reading.make_reader(config)

  def read(p, pixels, grid):
    x = encoder.apply({"params": p["vision"]}, pixels, grid_B2=grid)[1]
    return connector.apply({"params": p["connector"]}, x)

  run = jax.jit(read, compiler_options=family_decoders.QUICK)
  pixels = batch.pixels_BIHWC.reshape(-1, *batch.pixels_BIHWC.shape[2:])
  grid = batch.grid_BI2.reshape(-1, 2)
  said = np.asarray(run(params, normalised(pixels), grid))
  return np.concatenate([x[: g.prod() // 4] for x, g in zip(said, grid, strict=True)])


def ours(config, params, inputs):
  from unijax.data.rows import stack

  builder = family_decoders.everything(config)
  if "asked" in inputs:
    laid = layouts(builder, config, ASKED, SHAPES)
    return {"tokens": family_decoders.written_after(config, params, laid)}
  laid = layouts(builder, config, ROWS, PICTURES)
  batch = stack([builder.row([x]) for x in laid])
  logits = family_decoders.logits_of(config, params, batch)
  return {
    "features": features(config, params, batch),
    "logits": logits[batch.segment_BT > 0],
  }


def inputs(kind: str):
  return lambda: {kind: np.ones(1)}


def small(kind, sections=(1, 3, 2), tied=False, **vision):
  """config.json of a small model."""
  rope = {
    "rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sections),
  }  # fmt: skip
  words = {
    **family_decoders.COMMON, "model_type": f"{kind}_text", "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "num_attention_heads": 4, "num_hidden_layers": 2,
    "use_sliding_window": False, "rope_parameters": rope, "tie_word_embeddings": tied,
  }  # fmt: skip
  eyes = {
    "model_type": f"{kind}_vision", "depth": 3, "num_heads": 2, "patch_size": 4,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3, **vision,
  }  # fmt: skip
  return {
    "model_type": kind, "architectures": [CLASSES[kind]], "text_config": words,
    "vision_config": eyes, "image_token_id": IMAGE, "video_token_id": FILM,
    "vision_start_token_id": BEGIN, "vision_end_token_id": END, "preprocessor": PREPARED,
    "tie_word_embeddings": tied,
  }  # fmt: skip


OLD = small(
  "qwen2_vl", embed_dim=24, mlp_ratio=3, hidden_size=48, hidden_act="quick_gelu",
  tied=True,
)  # fmt: skip
EYES = {
  "hidden_size": 24, "intermediate_size": 36, "out_hidden_size": 48,
  "hidden_act": "silu", "window_size": 16, "fullatt_block_indexes": [1],
}  # fmt: skip
NEW = small("qwen2_5_vl", **EYES)
EPSILON = {"text_config": {**OLD["text_config"], "rms_norm_eps": 1e-5}}


def raster(pixels, size, unit):
  """Patches in raster order, where those of a position should be together."""
  del unit
  height, width, _ = pixels.shape
  x = pixels.reshape(height // size, size, width // size, size, 3).swapaxes(1, 2)
  return x.reshape(-1, size**2, 3)


RASTER = {"unijax.data.rows.cut": raster}


def sections(published, *numbers):
  words = published["text_config"]
  rope = {**words["rope_parameters"], "mrope_section": list(numbers)}
  return Wrong(published={"text_config": {**words, "rope_parameters": rope}})


def eyes(**fields):
  return Wrong(published={"vision_config": {**NEW["vision_config"], **fields}})


CASES = (
  Case("qwen2-vl-loud", "qwen2_vl", OLD, "loud", inputs("rows"),
       {"sections": sections(OLD, 2, 2, 2), "order": Wrong(patch=RASTER)}),
  Case("qwen2-vl-quiet", "qwen2_vl", OLD, "quiet", inputs("rows"),
       {"epsilon": Wrong(published=EPSILON)}, slow=True),
  Case("qwen2-vl-text", "qwen2_vl", OLD, "loud", inputs("asked")),
  Case("qwen2-5-vl-loud", "qwen2_5_vl", NEW, "loud", inputs("rows"),
       {"window": eyes(window_size=8), "whole": eyes(fullatt_block_indexes=[2])}),
  Case("qwen2-5-vl-quiet", "qwen2_5_vl", NEW, "quiet", inputs("rows"), slow=True),
  Case("qwen2-5-vl-text", "qwen2_5_vl", NEW, "loud", inputs("asked"), slow=True),
)  # fmt: skip
