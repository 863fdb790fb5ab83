"""Qwen3, the dense models of text (Yang et al. 2025).

  unijax import qwen3 FOLDER --out=runs/qwen3
  unijax sample --workdir=runs/qwen3 --prompt="The capital of France is"

Folders of transformers (Qwen3ForCausalLM): queries and keys pass an RMS norm, heads are
128 wide whatever the width, and no map has a bias.
"""

from ml_collections import ConfigDict

from configs.released import _decoder
from configs.released._decoder import DROPS, KEYS, PREFIXES, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("hidden_act", "silu")
  published.only("use_sliding_window", False)
  knobs = {"qk_norm": True, "norm_eps": published.get("rms_norm_eps", 1e-6)}
  bias = "attention" if published.get("attention_bias") else "none"
  c = _decoder.get_config(published, bias=bias, **knobs)
  c.model.head_dim = published.get("head_dim", 128)
  return c


def to_published(config) -> dict:
  """The config.json of transformers."""
  m = config.model
  return _decoder.to_published(
    config, architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu",
    head_dim=m.head_dim, rms_norm_eps=m.norm_eps, use_sliding_window=False,
    attention_bias=m.bias == "attention",
  )  # fmt: skip


def _size(layers, width, heads, hidden, tied):
  return {
    "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": hidden,
    "vocab_size": 151936, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": tied, "max_position_embeddings": 32768,
    "bos_token_id": 151643, "eos_token_id": 151643,
  }  # fmt: skip


PUBLISHED = {
  "0.6B": _size(28, 1024, 16, 3072, True),
  "8B": _size(36, 4096, 32, 12288, False),
}
PARAMETERS = {"0.6B": 596_049_920, "8B": 8_190_735_360}
