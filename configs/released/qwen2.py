"""Qwen2 and Qwen2.5, the dense models of text (Yang et al. 2024).

  unijax import qwen2 FOLDER --out=runs/qwen2
  unijax sample --workdir=runs/qwen2 --prompt="The capital of France is"

Folders of transformers (Qwen2ForCausalLM): queries, keys and values have a bias.
Windows of attention (`use_sliding_window`), which none of them has on, are refused.
"""

from ml_collections import ConfigDict

from configs.released import _decoder
from configs.released._decoder import DROPS, KEYS, PREFIXES, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  published.only("hidden_act", "silu")
  published.only("use_sliding_window", False)
  eps = published.get("rms_norm_eps", 1e-6)
  return _decoder.get_config(published, bias="qkv", norm_eps=eps)


def to_published(config) -> dict:
  """The config.json of transformers."""
  return _decoder.to_published(
    config, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu",
    rms_norm_eps=config.model.norm_eps, use_sliding_window=False,
  )  # fmt: skip


def _size(layers, width, heads, kv_heads, hidden, vocab=151936, tied=True):
  return {
    "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
    "num_key_value_heads": kv_heads, "intermediate_size": hidden, "vocab_size": vocab,
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied,
    "max_position_embeddings": 32768, "bos_token_id": 151643, "eos_token_id": 151643,
  }  # fmt: skip


PUBLISHED = {
  "2.5-0.5B": _size(24, 896, 14, 2, 4864),
  "2.5-7B": _size(28, 3584, 28, 4, 18944, 152064, False),
}
PARAMETERS = {"2.5-0.5B": 494_032_768, "2.5-7B": 7_615_616_512}
