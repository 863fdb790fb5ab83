"""CLIP, SigLIP and DINOv2 of transformers against our encoders.

Both sides are given pictures of whole numbers and make pixels of them by themselves.
"""

import functools

import numpy as np

from tests.interop import numbers
from tests.interop.cases import Case, Wrong, loaded

QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time
KINDS = {
  "clip": "CLIPModel", "clip_vision_model": "CLIPVisionModel", "siglip": "SiglipModel",
  "siglip_vision_model": "SiglipVisionModel", "dinov2": "Dinov2Model",
  "dinov2_with_registers": "Dinov2WithRegistersModel",
}  # fmt: skip
NORMAL = {
  "clip": (
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
  ),
  "siglip": ((0.5,) * 3, (0.5,) * 3),
  "dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}  # fmt: skip


def build(published):
  import transformers

  kind = KINDS[published["model_type"]]
  fields = {k: v for k, v in published.items() if k != "preprocessor"}
  model = getattr(transformers, kind)
  return model(model.config_class.from_dict(fields))


def load(folder):
  import json

  import transformers

  kind = KINDS[json.loads((folder / "config.json").read_text())["model_type"]]
  model = getattr(transformers, kind)
  return loaded(model, folder)


MEMORY = {  # on disk -> as the library holds them
  "attention.attention.query": "attention.q_proj",
  "attention.attention.key": "attention.k_proj",
  "attention.attention.value": "attention.v_proj",
  "attention.output.dense": "attention.o_proj",
}  # fmt: skip


def other_names(published, forms):
  """Names of towers that stand alone, or in a larger model, and those in memory."""
  kind = published["model_type"]
  shapes = {n: shape for n, (_, shape) in forms.items()}
  below = lambda prefix: {n: (prefix + n, s) for n, s in shapes.items()}
  if kind.endswith("vision_model"):
    prefixes = {"hub": "vision_model.", "of LLaVA": "vision_tower.vision_model."}
    return {layout: below(prefix) for layout, prefix in prefixes.items()}
  if not kind.startswith("dinov2"):
    return {}
  memory = {}
  for name, shape in shapes.items():
    for old, new in MEMORY.items():
      if old in name:
        memory[name] = name.replace(old, new), shape
  return {"memory": memory, "classifier": below(f"{kind}.")}


def standard(kind: str, pixels) -> np.ndarray:
  """What the library's processor makes of whole numbers: float32, colours first."""
  mean, std = map(np.asarray, NORMAL[kind])
  made = ((pixels / 255.0 - mean) / std).astype(np.float32)
  return np.ascontiguousarray(made.transpose(0, 3, 1, 2))


def peer(model, inputs):
  import torch

  kind = model.config.model_type
  pixels = torch.from_numpy(standard(kind.partition("_")[0], inputs["pixels"]))
  if kind not in ("clip", "siglip"):
    seen = model(pixel_values=pixels, output_hidden_states=True)
    return _seen(model.config, seen)
  out = model(
    pixel_values=pixels, input_ids=torch.from_numpy(inputs["tokens"]).long(),
    output_hidden_states=True,
  )  # fmt: skip
  seen = _seen(model.config.vision_config, out.vision_model_output)
  if kind == "clip":
    del seen["pooled"]  # the library's is what is projected, here
  return {
    **seen,
    "images": out.image_embeds, "texts": out.text_embeds,
    "words": out.text_model_output.last_hidden_state, "logits": out.logits_per_image,
  }  # fmt: skip


def _seen(config, out):
  first = 0 if config.model_type.startswith("siglip") else 1
  first += getattr(config, "num_register_tokens", 0)
  return {
    "features": out.last_hidden_state[:, first:],
    "earlier": out.hidden_states[-2][:, first:],
    **({} if out.pooler_output is None else {"pooled": out.pooler_output}),
  }


def ours(config, params, inputs):
  import dataclasses

  import jax
  import jax.numpy as jnp

  from unijax.nn.dual_encoder import DualEncoder, unit
  from unijax.nn.vision import VisionTransformer, normalised

  size = config.data.image_size
  early = dataclasses.replace(config.vision, skip_blocks=1, features_norm=False)

  def seen(params, pixels):
    x = normalised(pixels)
    run = lambda c: VisionTransformer(c, size).apply({"params": params["vision"]}, x)
    pooled, features = run(config.vision)
    both = {"features": features, "earlier": run(early)[1]}
    return both if config.vision.pool == "mean" else {**both, "pooled": pooled}

  if config.align.objective == "none":
    return jax.jit(seen, compiler_options=QUICK)(params, inputs["pixels"])
  module = DualEncoder(config, config.text.vocab)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def run(params, pixels, tokens, end):
    made = seen(params, pixels)

    def compared(m):
      images = unit(m.image_projection(made["pooled"]))
      pooled, words = m.text(tokens, end)
      texts = unit(m.text_projection(pooled))
      offset = m.bias if config.align.objective == "sigmoid" else 0.0
      logits = jnp.dot(images, texts.T) * m.scale() + offset
      return {"images": images, "texts": texts, "words": words, "logits": logits}

    both = {**made, **module.apply({"params": params}, method=compared)}
    if config.align.objective == "softmax":
      del both["pooled"]
    return both

  end = (inputs["tokens"] == dict(config.data.special)["eos"]).argmax(axis=1)
  return run(params, inputs["pixels"], inputs["tokens"], end)


# -- small releases ----------------------------------------------------------------------

VOCAB, END = 67, 66
SIDE = {"num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40}
PICTURES = {**SIDE, "hidden_size": 24, "image_size": 32, "patch_size": 6}
WORDS = {
  **SIDE, "num_attention_heads": 2, "hidden_size": 20, "vocab_size": VOCAB,
  "max_position_embeddings": 9,
}  # fmt: skip


def clip(act, eps=1e-5, end=END, **fields):
  more = {"hidden_act": act, "layer_norm_eps": eps}
  return {
    "model_type": "clip", "projection_dim": 18,
    "vision_config": {**PICTURES, **more},
    "text_config": {**WORDS, **more, "eos_token_id": end, "bos_token_id": END - 1},
    **fields,
  }  # fmt: skip


def siglip(act="gelu_pytorch_tanh", eps=1e-6):
  more = {"hidden_act": act, "layer_norm_eps": eps}
  words = {**WORDS, "num_attention_heads": 3, "hidden_size": 24, "eos_token_id": 1}
  return {
    "model_type": "siglip", "vision_config": {**PICTURES, **more},
    "text_config": {**words, **more, "projection_size": 24},
  }  # fmt: skip


def alone(kind, act, eps, **fields):
  more = {"hidden_act": act, "layer_norm_eps": eps}
  return {"model_type": f"{kind}_vision_model", **PICTURES, **more, **fields}


def dino(crop, **fields):
  return {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 3, "mlp_ratio": 3, "image_size": 42, "patch_size": 6,
    "layer_norm_eps": 1e-6, "preprocessor": {"crop_size": {"height": crop}}, **fields,
  }  # fmt: skip


def pictures(side):
  return (127.5 + 127.5 * numbers.picture("pixels", 2, side, side, 3)).astype(np.uint8)


def inputs(side=32, words=True):
  def make():
    given = {"pixels": pictures(side)}
    if words:
      tokens = numbers.whole("tokens", END - 1, 3, WORDS["max_position_embeddings"])
      for row, end in zip(tokens, (8, 3, 5), strict=True):
        row[0], row[end:] = END - 1, END
      given["tokens"] = tokens
    return given

  return make


REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 3}
RESIZES = "unijax.nn.vision.RESIZES"
SMOOTHER = {"bicubic": (-0.5, True), "smooth": (-0.75, False)}
CASES = (
  Case(
    "clip-loud", "clip", clip("quick_gelu", end=2), "loud", inputs(),
    {"gelu": Wrong(published=clip("gelu", end=2))},
  ),
  Case(
    "clip-quiet", "clip", clip("gelu"), "quiet", inputs(),
    {"epsilon": Wrong(published=clip("gelu", eps=1e-6))}, slow=True,
  ),
  Case(
    "clip-alone-loud", "clip", alone("clip", "quick_gelu", 1e-5), "loud",
    inputs(words=False), slow=True,
  ),
  Case(
    "siglip-loud", "siglip", siglip(), "loud", inputs(),
    {"gelu": Wrong(published=siglip("gelu"))}, slow=True,
  ),
  Case(
    "siglip-quiet", "siglip", siglip(), "quiet", inputs(),
    {"epsilon": Wrong(published=siglip(eps=1e-5))},
  ),
  Case(
    "siglip-headless-quiet", "siglip",
    alone("siglip", "gelu_pytorch_tanh", 1e-6, vision_use_head=False), "quiet",
    inputs(words=False), slow=True,
  ),
  Case(
    "dinov2-loud", "dinov2", dino(30), "loud", inputs(30, False),
    {"resize": Wrong(patch={RESIZES: SMOOTHER})}, slow=True,
  ),
  Case(
    "dinov2-gated-quiet", "dinov2", dino(42, use_swiglu_ffn=True), "quiet",
    inputs(42, False),
    {"epsilon": Wrong(published=dino(42, use_swiglu_ffn=True, layer_norm_eps=1e-5))}, slow=True,
  ),
  Case(
    "dinov2-registers-loud", "dinov2", dino(54, **REGISTERS), "loud",
    inputs(54, False), {"resize": Wrong(patch={RESIZES: SMOOTHER})},
  ),
)  # fmt: skip
