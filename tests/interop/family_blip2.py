"""BLIP-2 of transformers against ours: what the queries say, alone and to a decoder.

Stage one is compared in all that its release has: features with the class token, vectors
of pictures and of padded texts, their best cosines, and matching. The whole reads one
picture a row, and two, before BOS and words.
"""

import functools

import numpy as np

from tests.interop import family_decoders, family_encoders, family_llava, numbers
from tests.interop.cases import Case, Wrong, loaded

QUICK = family_encoders.QUICK
IMAGE = 259  # the token of a picture
ROWS = ((0, "a red dog?"), (1, 2, "What "))  # numbers: pictures
ASKED = ((0, "Who is it"), (1, "Is it red"))
QUERIES, VOCAB, LENGTH = 5, 130, 9


def _model(architecture):
  import transformers

  return getattr(transformers, architecture)


def build(published):
  from transformers import Blip2Config

  model = _model(published["architectures"][0])
  return model(Blip2Config.from_dict(dict(published)))


def load(folder):
  import json

  content = json.loads((folder / "config.json").read_text())
  return loaded(_model(content["architectures"][0]), folder)


def peer(model, inputs):
  import torch

  pixels = torch.from_numpy(family_encoders.standard("clip", inputs["pixels"]))
  if "tokens" in inputs:
    return _compared(model, pixels, inputs)
  rows = ASKED if "asked" in inputs else ROWS
  begin = model.config.text_config.bos_token_id
  tokens = [ids(row, begin) for row in rows]
  longest = max(map(len, tokens))
  real = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in tokens])
  tokens = torch.tensor([[1] * (longest - len(x)) + x for x in tokens])
  given = {"pixel_values": pixels, "input_ids": tokens, "attention_mask": real}
  if "asked" in inputs:
    model.language_model.generation_config.eos_token_id = None
    written = model.generate(
      **given, do_sample=False, max_new_tokens=family_decoders.WRITTEN, use_cache=True,
      pad_token_id=1,
    )  # fmt: skip
    return {"tokens": written[:, -family_decoders.WRITTEN :].numpy()}
  out = model(**given)
  return {
    "features": out.vision_outputs.last_hidden_state,
    "queries": out.qformer_outputs.last_hidden_state,
    "logits": out.logits[real.bool()].numpy(),
  }


def ids(row, begin: int) -> list[int]:
  """What the processor makes of a row: pictures, BOS, words."""
  pictures = sum(isinstance(part, int) for part in row)
  return [IMAGE] * QUERIES * pictures + [begin, *row[-1].encode()]


def _compared(model, pixels, inputs):
  import torch

  given = {
    "pixel_values": pixels, "input_ids": torch.from_numpy(inputs["tokens"]).long(),
    "attention_mask": torch.from_numpy(real(inputs)).long(),
  }  # fmt: skip
  far = model(**given, use_image_text_matching_head=False)
  near = model(**given, use_image_text_matching_head=True)
  return {
    "features": far.vision_model_output.last_hidden_state,
    "images": far.image_embeds, "texts": far.text_embeds,
    "cosines": far.logits_per_image, "match": near.logits_per_image,
    "joined": near.text_model_output.last_hidden_state[:, :QUERIES],
  }  # fmt: skip


def real(inputs) -> np.ndarray:
  """Where texts are, padding behind them: bool [B, T]."""
  return np.arange(inputs["tokens"].shape[1]) <= inputs["end"][:, None]


def ours(config, params, inputs):
  if "tokens" in inputs:
    return _aligned(config, params, inputs)
  from unijax.data.rows import stack

  builder = family_decoders.everything(config)
  if "asked" in inputs:
    laid = family_llava.layouts(builder, ASKED, inputs["pixels"])
    return {"tokens": family_decoders.written_after(config, params, laid)}
  laid = family_llava.layouts(builder, ROWS, inputs["pixels"])
  batch = stack([builder.row([x]) for x in laid])
  logits = family_decoders.logits_of(config, params, batch)
  seen = _seen(config, params, inputs["pixels"])
  return {**seen, "logits": logits[batch.segment_BT > 0]}


def _seen(config, params, pixels):
  """Features, and what the queries of a connector make of them."""
  import jax

  from unijax.nn.encoder import everything
  from unijax.nn.qformer import Queries
  from unijax.nn.reading import make_reader
  from unijax.nn.vision import normalised

  encoder, connector = make_reader(config)
  about = connector.config, connector.queries, connector.cross_every, connector.normed

  @functools.partial(jax.jit, compiler_options=QUICK)
  def run(params, pixels):
    _, features = encoder.apply({"params": params["vision"]}, normalised(pixels))
    text = features[:, :0, : connector.config.width]
    of = {"params": params["connector"]["queries"]}
    stack = Queries(*about, with_text=False)
    queries = stack.apply(of, features, text, everything(), method="mix")
    return {"features": features, "queries": queries}

  return run(params, pixels)


def _aligned(config, params, inputs):
  import jax
  import jax.numpy as jnp

  from unijax.nn.dual_encoder import QueryEncoder

  module = QueryEncoder(config, config.text.vocab)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def run(params, pixels, tokens, end):
    def every(m):
      features = m.features(pixels)
      images, texts = m.both(features, tokens, end)
      joined, _ = m.qformer(features, tokens, end, "joint")
      cosines = jnp.einsum("iqe,te->iqt", images, texts).max(axis=1)
      return {
        "features": features, "images": m.images(pixels), "texts": texts,
        "cosines": cosines, "match": m.matching(features, tokens, end),
        "joined": joined,
      }  # fmt: skip

    return module.apply({"params": params}, method=every)

  return run(params, inputs["pixels"], inputs["tokens"], inputs["end"])


def pictures(kind: str, count: int):
  def make():
    pixels = numbers.picture("pixels", count, 14, 14, 3)
    given = {"pixels": (127.5 + 127.5 * pixels).astype(np.uint8)}
    if kind != "tokens":
      return {**given, kind: np.ones(1)}
    tokens = numbers.whole("tokens", VOCAB, count, LENGTH)
    return {**given, "tokens": tokens, "end": np.array([LENGTH - 1, 3, 5], np.int32)}

  return make


EYES = {
  "model_type": "blip_2_vision_model", "hidden_size": 24, "num_hidden_layers": 3,
  "num_attention_heads": 3, "intermediate_size": 40, "image_size": 14, "patch_size": 4,
  "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True,
}  # fmt: skip
QFORMER = {
  "model_type": "blip_2_qformer", "hidden_size": 20, "num_hidden_layers": 4,
  "num_attention_heads": 2, "intermediate_size": 36, "hidden_act": "gelu",
  "layer_norm_eps": 1e-12, "cross_attention_frequency": 2, "encoder_hidden_size": 24,
}  # fmt: skip
WORDS = {
  "model_type": "opt", "vocab_size": 263, "hidden_size": 32, "num_hidden_layers": 2,
  "num_attention_heads": 4, "ffn_dim": 56, "max_position_embeddings": 128,
  "activation_function": "relu", "word_embed_proj_dim": 32, "bos_token_id": 2,
  "eos_token_id": 2, "pad_token_id": 1, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = {
  "model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"],
  "text_config": WORDS, "vision_config": EYES, "qformer_config": QFORMER,
  "num_query_tokens": QUERIES, "image_token_index": IMAGE,
}  # fmt: skip
ALIGNED = {
  "model_type": "blip-2", "architectures": ["Blip2ForImageTextRetrieval"],
  "vision_config": EYES, "num_query_tokens": QUERIES, "image_text_hidden_size": 14,
  "qformer_config": {
    **QFORMER, "use_qformer_text_input": True, "vocab_size": VOCAB,
    "max_position_embeddings": LENGTH,
  },
}  # fmt: skip


def other(part: str, published, **fields) -> Wrong:
  return Wrong(published={part: {**published[part], **fields}})


LATE = other("qformer_config", SMALL, layer_norm_eps=1e-5)
CASES = (
  Case("blip2-itm-loud", "blip2", ALIGNED, "loud", pictures("tokens", 3), {
    "mask": Wrong(patch={"unijax.nn.qformer.MASKS": dict.fromkeys(
      ("separate", "joint"), lambda asks, seen, before: (asks == seen) & before
    )}),
  }),
  Case("blip2-itm-quiet", "blip2", ALIGNED, "quiet", pictures("tokens", 3), {
    "epsilon": other("qformer_config", ALIGNED, layer_norm_eps=1e-5),
  }, slow=True),
  Case("blip2-loud", "blip2", SMALL, "loud", pictures("rows", 3), {
    "activation": other("text_config", SMALL, activation_function="gelu"),
  }),
  Case("blip2-quiet", "blip2", SMALL, "quiet", pictures("rows", 3), {"epsilon": LATE},
       slow=True),
  Case("blip2-text", "blip2", SMALL, "loud", pictures("asked", 2), slow=True),
)  # fmt: skip
