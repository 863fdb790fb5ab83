"""LLaVA of transformers against ours: logits after pictures and words, and answers.

Rows are laid out by our own interleaver; the reference gets the ids that its processor
makes, in which a picture is its token again and again.
"""

import numpy as np

from tests.interop import family_decoders, family_encoders, numbers
from tests.interop.cases import Case, Wrong, loaded

IMAGE = 259  # the token of a picture
ROWS = (("a red", 0, " dog, ", 1, "?"), ("What", 2, " is blue?"))  # numbers: pictures
ASKED = (("Who ", 0, "is it?"), ("Is it", 1, " red?"))


def build(published):
  from transformers import LlavaConfig, LlavaForConditionalGeneration

  return LlavaForConditionalGeneration(LlavaConfig.from_dict(dict(published)))


def load(folder):
  from transformers import LlavaForConditionalGeneration

  return loaded(LlavaForConditionalGeneration, folder, attn_implementation="eager")


def other_names(published, forms):
  """Names of the hub's files, whose tower has a level more, and those in memory."""
  hub, memory = {}, {}
  for name, (_, shape) in forms.items():
    hub[name] = name.replace("vision_tower.", "vision_tower.vision_model."), shape
    inner = name.replace("language_model.model.", "language_model.")
    head = inner.startswith("language_model.lm_head")
    inner = inner.removeprefix("language_model.") if head else f"model.{inner}"
    memory[name] = inner, shape
  return {"hub": hub, "memory": memory}


def ids(row, begin: int, features: int) -> list[int]:
  """What a processor makes of a row."""
  found = [begin]
  for part in row:
    found += [IMAGE] * features if isinstance(part, int) else list(part.encode())
  return found


def peer(model, inputs):
  import torch

  c = model.config
  pixels = torch.from_numpy(family_encoders.standard("clip", inputs["pixels"]))
  features = (c.vision_config.image_size // c.vision_config.patch_size) ** 2
  rows = ASKED if "asked" in inputs else ROWS
  tokens = [ids(row, c.text_config.bos_token_id, features) for row in rows]
  longest = max(map(len, tokens))
  real = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in tokens])
  tokens = torch.tensor([[0] * (longest - len(x)) + x for x in tokens])
  if "asked" in inputs:
    model.generation_config.eos_token_id = None
    written = model.generate(
      input_ids=tokens, pixel_values=pixels, attention_mask=real, do_sample=False,
      max_new_tokens=family_decoders.WRITTEN, use_cache=True, pad_token_id=0,
    )  # fmt: skip
    return {"tokens": written[:, longest:].numpy()}
  position = (real.cumsum(1) - 1).clamp(min=0)
  logits = model(
    input_ids=tokens, pixel_values=pixels, attention_mask=real, position_ids=position
  ).logits
  return {"logits": logits[real.bool()].numpy()}


def layouts(builder, rows, pixels):
  """Rows as our interleaver has them, with nothing after their end."""
  from unijax.data.document import Document, Text
  from unijax.infer.prompts import picture

  def part(x):
    return picture(pixels[x]) if isinstance(x, int) else Text(x)

  made = [Document(tuple(map(part, row)), id=0) for row in rows]
  return [builder.layout(d, open_end=True, without_text=False) for d in made]


def ours(config, params, inputs):

  from unijax.data.rows import stack

  builder = family_decoders.everything(config)
  if "asked" in inputs:
    laid = layouts(builder, ASKED, inputs["pixels"])
    return {"tokens": family_decoders.written_after(config, params, laid)}
  laid = layouts(builder, ROWS, inputs["pixels"])
  batch = stack([builder.row([x]) for x in laid])
  logits = family_decoders.logits_of(config, params, batch)
  return {"logits": logits[batch.segment_BT > 0]}


def inputs(kind: str, pictures: int):
  def make():
    pixels = numbers.picture("pixels", pictures, 14, 14, 3)
    return {"pixels": (127.5 + 127.5 * pixels).astype(np.uint8), kind: np.ones(1)}

  return make


TEXT = {
  **family_decoders.COMMON, "model_type": "llama", "hidden_act": "silu",
  "rms_norm_eps": 1e-5, "hidden_size": 32, "num_attention_heads": 4,
  "num_hidden_layers": 2, **family_decoders.theta(1e4),
}  # fmt: skip
EYES = {
  "model_type": "clip_vision_model", "hidden_size": 24, "num_hidden_layers": 3,
  "num_attention_heads": 3, "intermediate_size": 40, "image_size": 14, "patch_size": 4,
  "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 24,
}  # fmt: skip
SMALL = {
  "model_type": "llava", "architectures": ["LlavaForConditionalGeneration"],
  "text_config": TEXT, "vision_config": EYES, "image_token_index": IMAGE,
  "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
  "projector_hidden_act": "gelu", "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
CASES = (
  Case("llava-loud", "llava", SMALL, "loud", inputs("rows", 3),
       {"layer": Wrong(published={"vision_feature_layer": -1})}),
  Case("llava-quiet", "llava", SMALL, "quiet", inputs("rows", 3),
       {"epsilon": Wrong(published={"text_config": {**TEXT, "rms_norm_eps": 1e-6}})},
       slow=True),
  Case("llava-text", "llava", SMALL, "loud", inputs("asked", 2), slow=True),
)  # fmt: skip
