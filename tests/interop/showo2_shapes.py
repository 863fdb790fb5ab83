"""Shapes of the weights of a small release, by the names of the published lists."""

from tests.interop.janusflow_shapes import Shapes


def shapes(
  width: int, kv: int, hidden: int, vocab: int, seen: int, head: int, numbers: int,
  side: int, latents: int, depth: int = 2,
) -> Shapes:  # fmt: skip
  """Of everything but the autoencoder.

  Args:
    width, kv, hidden, vocab: of the Qwen2; numbers of all its keys together.
    seen: width of the layers of SigLIP.
    head, numbers: width of the blocks after the decoder's, numbers of a head of theirs.
    side: patches a side.
    latents: channels.
    depth: layers of each stack.
  """
  found, numbers_of_patch = Shapes(), 4 * latents
  found["showo.model.embed_tokens.weight"] = (vocab, width)
  found["showo.lm_head.weight"] = (vocab, width)
  for i in range(depth):
    of = f"showo.model.layers.{i}"
    found.block(of, width, width, kv, hidden, bias=True)
    seeing(found, f"und_trans.layers.{i}", seen)
    of = f"diffusion_head_a.{i}"
    found.block(of, head, 2 * head, numbers, head + 8)
    for n in "qk":
      found.norm(f"{of}.self_attn.{n}_norm", numbers)
    found.linear(f"{of}.adaLN_modulation.1", head, 6 * head)
  found.norm("showo.model.norm", width)
  for name, out in (("und", seen), ("gen", width)):
    found.add(f"image_embedder_{name}.proj", (out, latents, 2, 2), out)
  found["position_embedding.weight"] = (side**2, seen)
  found.norm("fusion_proj.0", seen + width)
  found.linear("fusion_proj.1", seen + width, width)
  found.linear("fusion_proj.3", width, width)
  found.linear("time_embed.mlp.0", 16, head)
  found.linear("time_embed.mlp.2", head, head)
  found.linear("time_embed_proj", head, width)
  found.linear("diff_proj.0", width, head)
  found.linear("diff_proj.2", head, head)
  found.norm("diffusion_head_b.norm_final", head)
  found.linear("diffusion_head_b.linear", head, numbers_of_patch)
  found.linear("diffusion_head_b.adaLN_modulation.1", head, 2 * head)
  return found


def seeing(found, of: str, width: int):
  """A layer of SigLIP."""
  for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
    found.linear(f"{of}.self_attn.{n}", width, width)
  found.linear(f"{of}.mlp.fc1", width, width + 8)
  found.linear(f"{of}.mlp.fc2", width + 8, width)
  for n in ("layer_norm1", "layer_norm2"):
    found.norm(f"{of}.{n}", width, True)
