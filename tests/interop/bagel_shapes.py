"""Shapes of the weights of a small release, by the names of the published lists."""

from tests.interop import family_magvit_v2
from tests.interop.bagel_reference import CODEC, SECOND


def shapes(published, codec):
  """Name -> shape of every weight, from the published lists of names."""
  llm, vit, found = published["llm_config"], published["vit_config"], {}
  width, hidden = llm["hidden_size"], llm["intermediate_size"]
  head = width // llm["num_attention_heads"]

  def linear(name, into, out, bias=True):
    found[f"{name}.weight"] = (out, into)
    found.update({f"{name}.bias": (out,)} if bias else {})

  for i in range(llm["num_hidden_layers"]):
    for n in ("", SECOND):
      name, attention = f"language_model.model.layers.{i}", "self_attn"
      few = head * llm["num_key_value_heads"]
      for part, out in (("q", width), ("k", few), ("v", few)):
        linear(f"{name}.{attention}.{part}_proj{n}", width, out)
      linear(f"{name}.{attention}.o_proj{n}", width, width, False)
      for part in "qk":
        found[f"{name}.{attention}.{part}_norm{n}.weight"] = (head,)
      for part, into, out in (
        ("gate", width, hidden), ("up", width, hidden), ("down", hidden, width),
      ):  # fmt: skip
        linear(f"{name}.mlp{n}.{part}_proj", into, out, False)
      for part in ("input_layernorm", "post_attention_layernorm"):
        found[f"{name}.{part}{n}.weight"] = (width,)
  for n in ("", SECOND):
    found[f"language_model.model.norm{n}.weight"] = (width,)
  for n in ("model.embed_tokens", "lm_head"):
    found[f"language_model.{n}.weight"] = (llm["vocab_size"], width)
  linear("time_embedder.mlp.0", 256, width)
  linear("time_embedder.mlp.2", width, width)
  linear("vae2llm", published["latent_numbers"], width)
  linear("llm2vae", width, published["latent_numbers"])
  found["latent_pos_embed.pos_embed"] = (published["latent_places"], width)
  found |= eyes(published, linear)
  linear("connector.fc1", vit["hidden_size"], width)
  linear("connector.fc2", width, width)
  found["vit_pos_embed.pos_embed"] = (published["vit_places"], width)
  return found | {f"{CODEC}/{n}": shape for n, shape in autoencoder(codec).items()}


def eyes(published, linear):
  """Those of the tower of pictures that are no maps, which `linear` adds."""
  vit, of = published["vit_config"], "vit_model.vision_model"
  width, hidden, found = vit["hidden_size"], vit["intermediate_size"], {}

  def norm(name):
    found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

  linear(f"{of}.embeddings.patch_embedding", 3 * vit["patch_size"] ** 2, width)
  table = f"{of}.embeddings.position_embedding.weight"
  found[table] = (published["vit_places"], width)
  for i in range(published["vit_layers"]):
    name = f"{of}.encoder.layers.{i}"
    for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
      linear(f"{name}.self_attn.{n}", width, width)
    linear(f"{name}.mlp.fc1", width, hidden)
    linear(f"{name}.mlp.fc2", hidden, width)
    for n in ("layer_norm1", "layer_norm2"):
      norm(f"{name}.{n}")
  norm(f"{of}.post_layernorm")
  return found


def autoencoder(codec):
  """Those of the autoencoder, whose vectors have means and as many log variances."""
  numbers, last = codec["numbers"], codec["widths"][-1]
  found = family_magvit_v2.shapes({**codec, "bits": 2 * numbers})
  kept = {n: shape for n, shape in found.items() if "quant" not in n}
  return kept | {"decoder.conv_in.weight": (last, numbers, 3, 3)}
