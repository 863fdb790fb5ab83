"""Llama 1, 2 and 3 (Touvron et al. 2023, Grattafiori et al. 2024), and their kin.

  unijax import llama FOLDER --out=runs/llama
  unijax sample --workdir=runs/llama --prompt="The capital of France is"

Folders of transformers (LlamaForCausalLM), tied or not, with or without biases, also
with the stretched rotary positions of 3.1 and 3.2.
"""

from ml_collections import ConfigDict

from configs.released import _decoder
from configs.released._decoder import DROPS, KEYS, PREFIXES, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("hidden_act", "silu")
  bias = "attention" if published.get("attention_bias") else "none"
  if published.get("mlp_bias"):
    published.only("attention_bias", True, default=False)
    bias = "all"
  eps = published.get("rms_norm_eps", 1e-6)
  return _decoder.get_config(published, bias=bias, norm_eps=eps)


def to_published(config) -> dict:
  """The config.json of transformers."""
  m = config.model
  return _decoder.to_published(
    config, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
    head_dim=m.head_dim, rms_norm_eps=m.norm_eps, mlp_bias=m.bias == "all",
    attention_bias=m.bias in ("attention", "all"),
  )  # fmt: skip


def _size(layers, width, heads, kv_heads, hidden, vocab, theta, **fields):
  return {
    "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
    "num_key_value_heads": kv_heads, "intermediate_size": hidden, "vocab_size": vocab,
    "rope_theta": theta, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "max_position_embeddings": 4096, **fields,
  }  # fmt: skip


def _long(factor):
  return {
    "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
  }  # fmt: skip


_IDS_2 = {"bos_token_id": 1, "eos_token_id": 2}
_IDS_3 = {
  "bos_token_id": 128000, "eos_token_id": 128001, "max_position_embeddings": 131072,
}  # fmt: skip
PUBLISHED = {
  "2-7B": _size(32, 4096, 32, 32, 11008, 32000, 1e4, **_IDS_2),
  "2-70B": _size(80, 8192, 64, 8, 28672, 32000, 1e4, **_IDS_2),
  "3.1-8B": _size(
    32, 4096, 32, 8, 14336, 128256, 5e5, **_IDS_3, rope_scaling=_long(8.0)
  ),
  "3.2-1B": _size(
    16, 2048, 32, 8, 8192, 128256, 5e5, **{**_IDS_3, "tie_word_embeddings": True},
    rope_scaling=_long(32.0),
  ),
}  # fmt: skip
PARAMETERS = {
  "2-7B": 6_738_415_616, "2-70B": 68_976_648_192, "3.1-8B": 8_030_261_248,
  "3.2-1B": 1_235_814_400,
}  # fmt: skip
