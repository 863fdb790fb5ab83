"""OPT (Zhang et al. 2022): a decoder whose positions are vectors of a table.

  unijax import opt FOLDER --out=runs/opt
  unijax sample --workdir=runs/opt --prompt="The capital of France is"

Folders of transformers (OPTForCausalLM): layer norms before branches, biases
everywhere, positions from the third row of their table on. Refused: that of 350 million
parameters, whose norms stand after branches and whose words are narrower.
"""

from ml_collections import ConfigDict

from configs.released import _decoder
from configs.released._decoder import BLOCK, LAYER, linear, norm
from unijax.interop.keymap import Key
from unijax.interop.told import absent, axis, count

PREFIXES = {
  "text": ("model.decoder.", "decoder.", "language_model.model.decoder."),
  "head": ("", "language_model."),
}
KEYS = (
  Key("embedding/table", "<text>embed_tokens.weight"),
  Key("transformer/position", "<text>embed_positions.weight"),
  *_decoder.attention("out_proj", "norm"),
  *linear(f"{BLOCK}/mlp/up", f"{LAYER}.fc1"),
  *linear(f"{BLOCK}/mlp/down", f"{LAYER}.fc2"),
  *norm(f"{BLOCK}/attention_norm", f"{LAYER}.self_attn_layer_norm"),
  *norm(f"{BLOCK}/mlp_norm", f"{LAYER}.final_layer_norm"),
  *norm("transformer/final_norm", "<text>final_layer_norm"),
  *linear("text_head", "<head>lm_head"),
)
SIZES = {
  "vocab_size": axis("<text>embed_tokens.weight", 0),
  "hidden_size": axis("<text>embed_positions.weight", 1),
  "ffn_dim": axis(f"{LAYER}.fc1.weight", 0),
  "num_hidden_layers": count(f"{LAYER}.fc1.weight"),
  "tie_word_embeddings": absent("<head>lm_head.weight"),
}
FIRST = 2  # row of the first position
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh"}
IDS = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}  # if not written


def get_config(published) -> ConfigDict:
  """Our config of one of them."""
  for name, value in (
    ("do_layer_norm_before", True), ("_remove_final_layer_norm", False),
    ("enable_bias", True), ("layer_norm_elementwise_affine", True),
  ):  # fmt: skip
    published.only(name, value)
  width = published["hidden_size"]
  length = published.get("max_position_embeddings", 2048)
  published.only("word_embed_proj_dim", width)
  ids = {name: published.get(name, value) for name, value in IDS.items()}
  return _decoder.get_config(
    published.given(
      **ids, max_position_embeddings=length, num_key_value_heads=None,
      intermediate_size=published["ffn_dim"],
      tie_word_embeddings=published.get("tie_word_embeddings", True),
    ),
    norm="layer", norm_eps=1e-5, bias="all", positions="learned",
    position_rows=length + FIRST, position_first=FIRST,
    mlp=ACTIVATIONS[published.only("activation_function", *ACTIVATIONS)],
  )  # fmt: skip


def to_published(config) -> dict:
  """The config.json of transformers."""
  m = config.model
  names = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
  made = _decoder.to_published(
    config, architectures=["OPTForCausalLM"], model_type="opt", ffn_dim=m.mlp_width,
    activation_function=names[m.mlp], word_embed_proj_dim=m.width,
    do_layer_norm_before=True, enable_bias=True, layer_norm_elementwise_affine=True,
    max_position_embeddings=m.position_rows - FIRST,
  )  # fmt: skip
  unknown = ("rope_parameters", "num_key_value_heads", "intermediate_size")
  return {name: x for name, x in made.items() if name not in unknown}


def _size(layers, width, heads, **fields):
  return {
    "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
    "ffn_dim": 4 * width, "vocab_size": 50272, "max_position_embeddings": 2048,
    "activation_function": "relu", "word_embed_proj_dim": width, "bos_token_id": 2,
    "eos_token_id": 2, "pad_token_id": 1, **fields,
  }  # fmt: skip


PUBLISHED = {
  "125M": _size(12, 768, 12), "1.3B": _size(24, 2048, 32), "2.7B": _size(32, 2560, 32),
  "6.7B": _size(32, 4096, 32),
}  # fmt: skip
PARAMETERS = {
  "125M": 125_239_296, "1.3B": 1_315_758_080, "2.7B": 2_651_596_800,
  "6.7B": 6_658_473_984,
}  # fmt: skip
