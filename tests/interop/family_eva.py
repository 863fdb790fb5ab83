"""EVA-CLIP in plain NumPy (`eva_reference`) against our encoders."""

import json

import numpy as np

from tests.interop import eva_reference, family_encoders
from tests.interop.cases import Case, Wrong
from tests.interop.family_encoders import END, VOCAB


def ours(config, params, inputs):
  made = dict(family_encoders.ours(config, params, inputs))
  del made["earlier"]  # the reference keeps the last block only
  return made


def build(published):
  return eva_reference.Model(published)


def load(folder):
  from safetensors.numpy import load_file

  weights = load_file(folder / "model.safetensors")
  weights = {name: np.asarray(x, np.float64) for name, x in weights.items()}
  config = json.loads((folder / "config.json").read_text())
  wanted = eva_reference.shapes(config)
  assert {n: x.shape for n, x in weights.items()} == wanted
  return eva_reference.Model(config, weights)


def other_names(published, forms):
  return {"module": {n: (f"module.{n}", shape) for n, (_, shape) in forms.items()}}


def peer(model, inputs):
  seen = [model.picture(x) for x in inputs["pixels"]]
  read = [model.text(x) for x in inputs["tokens"]]
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  images, features, texts, words = map(
    np.stack, [*zip(*seen, strict=True), *zip(*read, strict=True)]
  )
  images, texts = unit(images), unit(texts)
  scale = np.exp(model.w["logit_scale"])
  made = {
    "features": features, "images": images, "texts": texts, "words": words,
    "logits": scale * images @ texts.T,
  }  # fmt: skip
  return {name: x.astype(np.float32) for name, x in made.items()}


def small(head, ratio, **vision):
  return {
    "embed_dim": 18,
    "vision_cfg": {
      "image_size": 30, "patch_size": 6, "layers": 3, "width": 24, "head_width": head,
      "mlp_ratio": ratio, **vision,
    },
    "text_cfg": {
      "context_length": 9, "vocab_size": VOCAB, "width": 20, "heads": 2, "layers": 2,
    },
  }  # fmt: skip


def inputs():
  made = family_encoders.inputs(30)()
  made["tokens"][:, 1:][made["tokens"][:, 1:] == END] = 0
  for row, end in zip(made["tokens"], (8, 3, 5), strict=True):
    row[end] = END
  return made


SECOND = dict(
  rope=True, pt_hw_seq_len=16, intp_freq=True, naiveswiglu=True, subln=True
)  # fmt: skip
CASES = (
  Case(
    "eva02-loud", "eva_clip", small(8, 2.6667, **SECOND), "loud", inputs,
    {"theta": Wrong(patch={"unijax.nn.places.ROPE_THETA": 100.0})},
  ),
  Case(
    "eva02-quiet", "eva_clip", small(8, 2.6667, **SECOND), "quiet", inputs,
    {"norms": Wrong(published=small(8, 2.6667, **SECOND, postnorm=True))}, slow=True,
  ),
  Case(
    "eva-postnorm-loud", "eva_clip", small(12, 3, postnorm=True), "loud", inputs,
    {"order": Wrong(published=small(12, 3))}, slow=True,
  ),
  Case("eva-plain-quiet", "eva_clip", small(12, 3), "quiet", inputs, slow=True),
)  # fmt: skip
