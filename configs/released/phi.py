"""Phi 1, 1.5 and 2 (Gunasekar et al. 2023, Li et al. 2023), and the decoder of Show-o.

  unijax import phi FOLDER --out=runs/phi
  unijax sample --workdir=runs/phi --prompt="def greet(name):"

Folders of transformers (PhiForCausalLM): layer norms, attention and MLP side by side,
rotary positions on a part of each head, biases everywhere; Show-o (Xie et al. 2024)
adds layer norms of queries and keys (`qk_layernorm`).
"""

from ml_collections import ConfigDict

from configs.released import _decoder
from configs.released._decoder import BLOCK, DROPS, LAYER, linear, norm  # noqa: F401
from unijax.interop.keymap import Key
from unijax.interop.told import absent

PREFIXES = {"text": ("model.", "showo.model."), "head": ("", "showo.")}
KEYS = (
  Key("embedding/table", "<text>embed_tokens.weight"),
  *_decoder.attention("dense", "layernorm"),
  *linear(f"{BLOCK}/mlp/up", f"{LAYER}.mlp.fc1"),
  *linear(f"{BLOCK}/mlp/down", f"{LAYER}.mlp.fc2"),
  *norm(f"{BLOCK}/attention_norm", f"{LAYER}.input_layernorm"),
  *norm("transformer/final_norm", "<text>final_layernorm"),
  *linear("text_head", "<head>lm_head"),
)
SIZES = {**_decoder.SIZES, "tie_word_embeddings": absent("<head>lm_head.weight")}
ACTIVATIONS = {
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
  "gelu": "gelu",
}


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("tie_word_embeddings", False)
  part = published.get("partial_rotary_factor", 0.5)
  part = published.get("rope_parameters.partial_rotary_factor", part)
  return _decoder.get_config(
    published, norm="layer", block="parallel", bias="all", head_bias=True,
    norm_eps=published.get("layer_norm_eps", 1e-5), rope_fraction=float(part),
    mlp=ACTIVATIONS[published.only("hidden_act", *ACTIVATIONS)],
    qk_norm=published.get("qk_layernorm", False), qk_norm_kind="layer",
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json of transformers."""
  m = config.model
  names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
  rope = _decoder.rope_parameters(m) | {"partial_rotary_factor": m.rope_fraction}
  return _decoder.to_published(
    config, architectures=["PhiForCausalLM"], model_type="phi",
    hidden_act=names[m.mlp], layer_norm_eps=m.norm_eps, qk_layernorm=m.qk_norm,
    rope_parameters=rope,
  )  # fmt: skip


def _size(layers, width, heads, part, vocab=51200, **fields):
  return {
    "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
    "intermediate_size": 4 * width, "vocab_size": vocab, "hidden_act": "gelu_new",
    "partial_rotary_factor": part, "max_position_embeddings": 2048, "rope_theta": 1e4,
    "bos_token_id": 50256, "eos_token_id": 50256, **fields,
  }  # fmt: skip


PUBLISHED = {
  "1.5": _size(24, 2048, 32, 0.5),
  "showo": _size(24, 2048, 32, 0.5, 58498, qk_layernorm=True),
}
PARAMETERS = {"1.5": 1_418_270_720, "showo": 1_448_176_770}
