"""Decoders of text of transformers against ours: logits, and text written with a cache.

The second row is padded on the left, as batches of prompts are: what stands under the
padding is no output.
"""

import numpy as np

from tests.interop import numbers
from tests.interop.cases import Case, Wrong, loaded

PAD = 5  # positions of padding before the second row
WRITTEN = 64  # tokens
CHUNK = 8
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time


def build(published):
  import transformers

  name = published["architectures"][0]
  cls = getattr(transformers, name)
  return cls(cls.config_class.from_dict(dict(published)))


def load(folder):
  from transformers import AutoModelForCausalLM

  return loaded(AutoModelForCausalLM, folder, attn_implementation="eager")


def peer(model, inputs):
  import torch

  if "prompt" in inputs:
    prompt = torch.from_numpy(inputs["prompt"]).long()
    model.generation_config.eos_token_id = None
    written = model.generate(
      prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=WRITTEN,
      do_sample=False, use_cache=True, pad_token_id=0,
    )  # fmt: skip
    return {"tokens": written[:, prompt.shape[1] :].numpy()}
  tokens = torch.from_numpy(inputs["tokens"]).long()
  real = torch.from_numpy(inputs["real"])
  position = (real.long().cumsum(1) - 1).clamp(min=0)
  logits = model(tokens, attention_mask=real.long(), position_ids=position).logits
  return {"logits": logits[real].numpy()}


def ours(config, params, inputs):
  if "prompt" in inputs:
    return {"tokens": written(config, params, inputs["prompt"])}
  import jax
  import jax.numpy as jnp

  from unijax.nn.model import make_model
  from unijax.types import Inputs

  real = inputs["real"]
  index = np.broadcast_to(np.arange(real.shape[1], dtype=np.int32), real.shape)
  outside = np.full_like(index, -1)
  position = np.maximum(real.cumsum(1) - 1, 0).astype(np.int32)
  given = Inputs(
    tokens_BT=inputs["tokens"], patches_BTC=None, time_BT=None, span_BT=outside,
    patch_BT=outside, position_BTA=np.repeat(position[..., None], 3, axis=2),
    index_BT=index, start_BT=np.where(real, index - position, 0), end_BT=index,
  )  # fmt: skip
  model = make_model(config, config.data.vocab)

  def logits(m, x):
    return m.logits(m.hidden(x)[0])

  apply = lambda p, x: model.apply({"params": p}, x, method=logits)
  run = jax.jit(apply, compiler_options=QUICK)
  return {"logits": run(params, jax.tree.map(jnp.asarray, given))[real]}


def written(config, params, prompt):
  """What sampling writes after prompts of one length, by its own functions."""
  from unijax.data.layout import Layout

  layouts = []
  for ids in prompt:
    layouts.append(Layout(key=0))
    layouts[-1].add_tokens(ids.tolist(), 0.0)
  return written_after(config, params, layouts)


def everything(config):
  """A builder of rows in which every row of the token table may be written."""
  from unijax.data.rows import RowBuilder
  from unijax.data.tokenizer import ByteTokenizer

  tokenizer = ByteTokenizer()
  tokenizer.vocab_size = config.data.vocab - config.codebook - config.write.masks
  return RowBuilder(config, tokenizer)


def logits_of(config, params, batch):
  """Logits of whole rows with pictures that are read and codes."""
  import jax
  import jax.numpy as jnp

  from unijax.nn.model import make_model
  from unijax.write import base

  given = base.row_inputs(config, batch, batch.tokens_BT, batch.patches_BTC)
  model = make_model(config, config.data.vocab)
  method = lambda m, x: m.logits(m.hidden(x)[0])
  apply = lambda p, x: model.apply({"params": p}, x, method=method)
  run = jax.jit(apply, compiler_options=QUICK)
  return run(params, jax.tree.map(jnp.asarray, given))


def both_heads(config, params, batch, patches, time):
  """Logits of whole rows, and what the image head says of patches at timesteps."""
  import jax
  import jax.numpy as jnp

  from unijax.nn.model import make_model
  from unijax.write import base

  given = base.row_inputs(config, batch, batch.tokens_BT, patches, time)
  model = make_model(config, config.data.vocab)
  apply = lambda p, x: model.apply({"params": p}, x)
  run = jax.jit(apply, compiler_options=QUICK)
  return tuple(map(np.asarray, run(params, jax.tree.map(jnp.asarray, given))))


def written_after(config, params, layouts, builder=None):
  """What sampling writes after layouts of one length, given in parts of `CHUNK` or of a
  picture, each against the cache of those before.

  With a builder of rows its vocabulary says what may be written, and what ends it.
  """
  import dataclasses

  import jax
  import jax.numpy as jnp

  from unijax.data.rows import stack
  from unijax.infer.functions import SampleFunctions
  from unijax.infer.row import chunks
  from unijax.infer.text_sampling import text_sampling
  from unijax.nn.cache import make_cache

  sample = dataclasses.replace(config.sample, max_text_tokens=WRITTEN)
  config = dataclasses.replace(config, sample=sample)
  vocabulary = builder.vocabulary if builder else None
  if vocabulary is None:
    builder = everything(config)
    special = dataclasses.replace(builder.vocabulary.special, eos=-1)
    vocabulary = dataclasses.replace(builder.vocabulary, special=special)
  functions = SampleFunctions(config, vocabulary)
  rows, (length,) = len(layouts), {len(x) for x in layouts}
  position = np.array([x.next_position for x in layouts], np.int32)
  cache = make_cache(config, rows, length + WRITTEN)
  framed = config.framed * (max(config.patches, config.features) + config.frame)
  size = max(CHUNK, config.features, config.image_positions, framed)
  for parts in zip(*(chunks(x, (size,)) for x in layouts), strict=True):
    chunk = stack([builder.chunk(x, size) for x in parts])
    cache, logits = functions.prefill(params, cache, chunk)
  every = jnp.full(rows, WRITTEN, jnp.int32)
  keys = jax.vmap(jax.random.key)(np.zeros(rows, np.uint32))
  _, _, tokens = functions.decode_text(
    params, cache, logits, position, keys, every,
    jnp.zeros(rows, bool), np.int32(WRITTEN), text_sampling(config.sample),
  )  # fmt: skip
  return tokens


def inputs(vocab, length=19):
  def make():
    real = np.ones((2, length), bool)
    real[1, :PAD] = False
    return {"tokens": numbers.whole("tokens", vocab, 2, length), "real": real}

  return make


def prompts(vocab, length=11):
  return lambda: {"prompt": numbers.whole("prompt", vocab, 2, length)}


COMMON = {
  "vocab_size": 263, "hidden_size": 48, "num_attention_heads": 6,
  "num_key_value_heads": 2, "intermediate_size": 72, "num_hidden_layers": 3,
  "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
  "pad_token_id": None, "tie_word_embeddings": False,
}  # fmt: skip


def of(architecture, kind, **fields):
  return {**COMMON, "architectures": [architecture], "model_type": kind, **fields}


def theta(value, **more):
  return {"rope_parameters": {"rope_type": "default", "rope_theta": value, **more}}


LONG = {
  "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}  # fmt: skip
LLAMA = of("LlamaForCausalLM", "llama", hidden_act="silu", rms_norm_eps=1e-5)
PLAIN = {**LLAMA, **theta(1e4)}
LLAMA3 = {
  **LLAMA, "rope_parameters": {"rope_theta": 5e5, **LONG}, "tie_word_embeddings": True,
}  # fmt: skip
BIASED = {
  **LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 20,
  "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
}  # fmt: skip
QWEN2 = of(
  "Qwen2ForCausalLM", "qwen2", hidden_act="silu", rms_norm_eps=1e-6,
  use_sliding_window=False, num_attention_heads=4, **theta(1e6),
)  # fmt: skip
QWEN3 = of(
  "Qwen3ForCausalLM", "qwen3", hidden_act="silu", rms_norm_eps=1e-6, head_dim=14,
  use_sliding_window=False, attention_bias=False, tie_word_embeddings=True,
  **theta(1e6),
)  # fmt: skip
PHI = of(
  "PhiForCausalLM", "phi", hidden_act="gelu_new", layer_norm_eps=1e-5,
  qk_layernorm=True, hidden_size=64, num_attention_heads=4,
  **theta(1e4, partial_rotary_factor=0.5),
)  # fmt: skip
OPT = of(
  "OPTForCausalLM", "opt", activation_function="relu", ffn_dim=72,
  word_embed_proj_dim=48, pad_token_id=0, tie_word_embeddings=True,
)  # fmt: skip
SILU = "unijax.nn.layers.nn"


class GELU:
  """flax.linen in which silu is gelu."""

  def __getattr__(self, name):
    from flax import linen

    return getattr(linen, "gelu" if name == "silu" else name)


def looser(x, kind, eps):
  """A centred norm with ten times its epsilon."""
  y = x - x.mean(axis=-1, keepdims=True)
  return y * ((y * y).mean(axis=-1, keepdims=True) + 10 * eps) ** -0.5


def wrong(**fields):
  return Wrong(published=fields)


def each(name, system, published, loud, quiet, slow=()):
  """A case at each scale of weights, with the mistakes that it can tell; and text."""
  vocab = published["vocab_size"]
  of = {"loud": (inputs(vocab), loud), "quiet": (inputs(vocab), quiet)}
  of["text"] = prompts(vocab), {}
  return tuple(
    Case(f"{name}-{kind}", system, published, "loud" if kind == "text" else kind, made,
         mistakes, slow=kind in slow)
    for kind, (made, mistakes) in of.items()
  )  # fmt: skip


CASES = (
  *each(
    "llama", "llama", PLAIN,
    {"theta": wrong(**theta(1e6)), "activation": Wrong(patch={SILU: GELU()})},
    {"epsilon": wrong(rms_norm_eps=1e-6)},
  ),
  *each(
    "llama3", "llama", LLAMA3,
    {
      "factor": wrong(rope_parameters={**LLAMA3["rope_parameters"], "factor": 7.0}),
      "unstretched": wrong(**theta(5e5)),
    },
    {"epsilon": wrong(rms_norm_eps=1e-6)}, ("quiet", "text"),
  ),
  *each(
    "llama-biases", "llama", BIASED,
    {"stretch": wrong(**theta(1e4))}, {"epsilon": wrong(rms_norm_eps=1e-6)},
    ("loud", "quiet", "text"),
  ),
  *each(
    "qwen2", "qwen2", QWEN2,
    {"theta": wrong(**theta(1e4)), "activation": Wrong(patch={SILU: GELU()})},
    {"epsilon": wrong(rms_norm_eps=1e-5)}, ("quiet", "text"),
  ),
  *each(
    "qwen3", "qwen3", QWEN3,
    {"theta": wrong(**theta(1e4)), "activation": Wrong(patch={SILU: GELU()})},
    {"epsilon": wrong(rms_norm_eps=1e-5)}, ("quiet", "text"),
  ),
  *each(
    "phi", "phi", PHI,
    {
      "theta": wrong(**theta(1e6, partial_rotary_factor=0.5)),
      "part": wrong(**theta(1e4, partial_rotary_factor=0.25)),
      "activation": wrong(hidden_act="gelu"),
    },
    {"epsilon": wrong(layer_norm_eps=1e-6)}, ("text",),
  ),
  *each(
    "opt", "opt", OPT, {"activation": wrong(activation_function="gelu")},
    {"epsilon": Wrong(patch={"unijax.nn.layers.normalized": looser})}, ("quiet", "text"),
  ),
)  # fmt: skip
