"""What the files of decoders of text have in common: names, fields, ids, formats."""

from ml_collections import ConfigDict

from configs import base
from unijax.interop.keymap import Drop, Key
from unijax.interop.ops import LINEAR
from unijax.interop.told import absent, axis, count

# Alone, and as the language model of systems that read or write pictures.
PREFIXES = {
  "text": ("model.", "language_model.model.", "model.language_model.", ""),
  "head": ("", "language_model."),
}
DROPS = (Drop("<text>layers.{i}.self_attn.rotary_emb.inv_freq"),)
LAYER, BLOCK = "<text>layers.{i}", "transformer/blocks"


def linear(ours: str, theirs: str) -> tuple[Key, Key]:
  """Kernel and bias of a map; a key is left out where ours has no such leaf."""
  return Key(f"{ours}/kernel", f"{theirs}.weight", LINEAR), bias(ours, theirs)


def norm(ours: str, theirs: str) -> tuple[Key, Key]:
  """Scale and bias of a norm."""
  return Key(f"{ours}/scale", f"{theirs}.weight"), bias(ours, theirs)


def bias(ours: str, theirs: str) -> Key:
  """A bias."""
  return Key(f"{ours}/bias", f"{theirs}.bias")


def attention(out: str, normed: str) -> tuple[Key, ...]:
  """The maps of attention: `out` and `normed` are what two names end with."""
  ours, theirs = f"{BLOCK}/attention", f"{LAYER}.self_attn"
  return (
    *(k for n in "qkv" for k in linear(f"{ours}/{n}", f"{theirs}.{n}_proj")),
    *linear(f"{ours}/out", f"{theirs}.{out}"),
    *(k for n in "qk" for k in norm(f"{ours}/{n}_norm", f"{theirs}.{n}_{normed}")),
  )


KEYS = (  # of the family of decoders with a gated MLP
  Key("embedding/table", "<text>embed_tokens.weight"),
  *attention("o_proj", "norm"),
  *(
    key
    for name in ("gate", "up", "down")
    for key in linear(f"{BLOCK}/mlp/{name}", f"{LAYER}.mlp.{name}_proj")
  ),
  *norm(f"{BLOCK}/attention_norm", f"{LAYER}.input_layernorm"),
  *norm(f"{BLOCK}/mlp_norm", f"{LAYER}.post_attention_layernorm"),
  *norm("transformer/final_norm", "<text>norm"),
  *linear("text_head", "<head>lm_head"),
)
SIZES = {
  "vocab_size": axis("<text>embed_tokens.weight", 0),
  "hidden_size": axis("<text>embed_tokens.weight", 1),
  "intermediate_size": axis(
    (f"{LAYER}.mlp.up_proj.weight", f"{LAYER}.mlp.fc1.weight"), 0
  ),
  "num_hidden_layers": count(f"{LAYER}.input_layernorm.weight"),
  "tie_word_embeddings": absent("<head>lm_head.weight"),
}


def get_config(published, **model) -> ConfigDict:
  """Our config of a decoder; `model` are knobs that its family decides."""
  c = base.get_config()
  width, heads = published["hidden_size"], published["num_attention_heads"]
  c.model.update(
    write="none", image_mask="causal", qk_norm=False,
    depth=published["num_hidden_layers"], width=width, heads=heads,
    kv_heads=published.get("num_key_value_heads") or heads,
    head_dim=published.get("head_dim") or width // heads,
    mlp_width=published["intermediate_size"],
    tie_embeddings=published.get("tie_word_embeddings", False),
  )  # fmt: skip
  c.model.update(rope(published))
  c.model.update(model)
  c.data.update(
    vocab=published["vocab_size"], special=special(published), images_per_row=1,
    seq_len=published["max_position_embeddings"],
  )  # fmt: skip
  c.data.tokenizer = published.get("tokenizer.file", "bytes")
  c.data.sources.text = {"kind": "corpus", "weight": 1.0, "options": {}}
  begin = published.get("tokenizer.begin")
  c.data.chat = () if begin is None else chat(begin, published.get("tokenizer.chat"))
  c.sample.stops = ends(published)[1:]
  return c


# What stands around turns, by a name that only templates of this format have; next to
# system text that they put in where a user gives none.
FORMATS = {
  "<|im_start|>": {
    "user": "<|im_start|>user\n", "user_end": "<|im_end|>\n",
    "assistant": "<|im_start|>assistant\n", "assistant_end": "\n",
  },
  "<|start_header_id|>": {
    "user": "<|start_header_id|>user<|end_header_id|>\n\n", "user_end": "<|eot_id|>",
    "assistant": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "assistant_end": "",
  },
  "[INST]": {
    "user": "[INST] ", "user_end": " [/INST]", "assistant": "", "assistant_end": "<s>",
  },
  "ASSISTANT:": {
    "user": "USER: ", "user_end": " ", "assistant": "ASSISTANT:", "assistant_end": "",
    "image_end": "\n",
  },
  "<|Assistant|>:": {
    "user": "<|User|>: ", "user_end": "\n\n", "assistant": "<|Assistant|>:",
    "assistant_end": "", "image_end": "\n",
  },
  "Assistant:": {
    "user": "User: ", "user_end": "\n\n", "assistant": "Assistant:",
    "assistant_end": "", "image_end": "\n",
  },
}  # fmt: skip
SYSTEMS = {
  "<|im_start|>": (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant",
  ),
}


def chat(begin: str, template: str) -> tuple[tuple[str, str], ...]:
  """The parts of `data.chat`, recognised in a chat template; `begin` alone of others.

  Args:
    begin: names of tokens before any text.
    template: text of the release's; "" where it has none.
  """
  for mark, parts in FORMATS.items():
    if mark not in template:
      continue
    known = (s for s in SYSTEMS.get(mark, ()) if s in template)
    if said := next(known, ""):
      begin += f"<|im_start|>system\n{said}<|im_end|>\n"
    return (("begin", begin), *parts.items())
  return (("begin", begin),)


def ends(published) -> tuple[int, ...]:
  """Ids that end what is generated, that of `eos` first."""
  told = published.get("tokenizer.ends") or published.get("eos_token_id")
  told = told if isinstance(told, tuple) else () if told is None else (told,)
  first = published.get("tokenizer.eos")
  first = told[:1] if first is None else (first,)
  rest = tuple(i for i in told if i not in first)
  return (*first, *rest) or (published["vocab_size"] - 1,)


def rope(published) -> dict:
  """Knobs of rotary positions, from either of the two ways to write them."""

  def get(name, default=None):
    old = published.get(f"rope_scaling.{name}", default)
    return published.get(f"rope_parameters.{name}", old)

  theta = published.get("rope_theta", 10000.0)
  kind = get("rope_type") or get("type", "default")
  knobs = {"rope_theta": float(published.get("rope_parameters.rope_theta", theta))}
  if kind == "linear":  # of every wavelength
    knobs |= {"rope_factor": float(get("factor")), "rope_length": 0}
  elif kind == "llama3":
    knobs |= {
      "rope_factor": float(get("factor")),
      "rope_length": get("original_max_position_embeddings"),
      "rope_low": float(get("low_freq_factor")),
      "rope_high": float(get("high_freq_factor")),
    }
  elif kind != "default":
    name = "rope_parameters.rope_type"
    published.only(name, "default", "linear", "llama3", default=kind)
  return knobs


def special(published) -> tuple[tuple[str, int], ...]:
  """Ids of our special tokens; those that such a decoder lacks are never used."""
  eos = ends(published)[0]
  bos, pad = (published.get(f"{name}_token_id") for name in ("bos", "pad"))
  pad = eos if pad is None or pad < 0 else pad
  known = {"bos": eos if bos is None else bos, "eos": eos}
  rest = ("pad", "boi", "eoi", "time", "user", "assistant")
  return (*known.items(), *((name, pad) for name in rest))


def to_published(config, **fields) -> dict:
  """What the config.json of every decoder has, and `fields`."""
  m, ids, stops = config.model, dict(config.data.special), config.sample.stops
  return {
    "dtype": "float32",
    "vocab_size": config.data.vocab,
    "hidden_size": m.width,
    "intermediate_size": m.mlp_width,
    "num_hidden_layers": m.depth,
    "num_attention_heads": m.heads,
    "num_key_value_heads": m.kv_heads,
    "max_position_embeddings": config.data.seq_len,
    "tie_word_embeddings": m.tie_embeddings,
    "bos_token_id": ids.get("bos"),
    "eos_token_id": [ids["eos"], *stops] if stops else ids.get("eos"),
    "pad_token_id": ids.get("pad"),
    "rope_parameters": rope_parameters(m),
    **fields,
  }


def rope_parameters(m) -> dict:
  """The inverse of `rope`."""
  found = {"rope_theta": m.rope_theta, "rope_type": "default"}
  if m.rope_factor == 1:
    return found
  found |= {"rope_type": "linear", "factor": m.rope_factor}
  if m.rope_length:
    found |= {
      "rope_type": "llama3",
      "low_freq_factor": m.rope_low,
      "high_freq_factor": m.rope_high,
      "original_max_position_embeddings": m.rope_length,
    }
  return found
