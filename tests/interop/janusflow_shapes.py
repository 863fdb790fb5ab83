"""Shapes of the weights of a small release, by the names of the published lists."""

from tests.interop.janusflow_reference import ENTER, LEAVE


class Shapes(dict):
  """Name -> shape; each method adds the weights of one layer."""

  def linear(self, name, into, out, bias=True):
    self.add(name, (out, into), out if bias else 0)

  def norm(self, name, size, bias=False):
    self.add(name, (size,), size if bias else 0)

  def block(self, of, width, queries, keys, hidden, bias=False):
    """A block of a decoder with a gated MLP; `bias`: of queries, keys and values."""
    for n, out in (("q", queries), ("k", keys), ("v", keys)):
      self.linear(f"{of}.self_attn.{n}_proj", width, out, bias)
    self.linear(f"{of}.self_attn.o_proj", queries, width, False)
    for n, into, out in (
      ("gate", width, hidden), ("up", width, hidden), ("down", hidden, width),
    ):  # fmt: skip
      self.linear(f"{of}.mlp.{n}_proj", into, out, False)
    for n in ("input", "post_attention"):
      self.norm(f"{of}.{n}_layernorm", width)

  def add(self, name, weight, bias: int):
    self[f"{name}.weight"] = weight
    self.update({f"{name}.bias": (bias,)} if bias else {})


def shapes(published, tower: int, width: int, flow: int, side: int) -> Shapes:
  """Of everything but the autoencoder.

  Args:
    published: config.json.
    tower, width, flow: of the tower of pictures, the Llama, the ConvNeXt stacks.
    side: patches a side of a picture that is read.
  """
  found = Shapes()
  words(found, published["language_config"], width)
  pictures(found, tower, side)
  found.linear("vision_und_enc_aligner", tower, width)
  found["beg_of_und_embed"] = (1, width)
  found.linear(f"{ENTER}.time_embed.linear_1", flow, width)
  found.linear(f"{ENTER}.time_embed.linear_2", width, width)
  found.add(f"{ENTER}.in_conv", (flow, 4, 2, 2), flow)
  stack(found, ENTER, flow, width)
  found.linear("vision_gen_enc_aligner", flow, width)
  found.norm("vision_gen_dec_aligner_norm", width)
  found.linear("vision_gen_dec_aligner", width, flow)
  found.norm(f"{LEAVE}.input_norm", flow)
  stack(found, LEAVE, 2 * flow, width)
  last = f"{LEAVE}.out_convs.0"
  found.norm(f"{last}.norm", 2 * flow)
  found.add(f"{last}.unpatch_conv", (16, 2 * flow, 1, 1), 16)
  return found


def words(found: Shapes, llama, width: int):
  """The Llama."""
  hidden, vocab = llama["intermediate_size"], llama["vocab_size"]
  for name in ("model.embed_tokens", "lm_head"):
    found[f"language_model.{name}.weight"] = (vocab, width)
  for i in range(llama["num_hidden_layers"]):
    found.block(f"language_model.model.layers.{i}", width, width, width, hidden)
  found.norm("language_model.model.norm", width)


def pictures(found: Shapes, width: int, side: int):
  """The tower of pictures: two blocks, patches of 4 pixels a side."""
  of = "vision_und_enc_model.vision_tower"
  found[f"{of}.pos_embed"] = (1, side**2, width)
  found.add(f"{of}.patch_embed.proj", (width, 3, 4, 4), width)
  for i in range(2):
    block = f"{of}.blocks.{i}"
    for n in ("norm1", "norm2"):
      found.norm(f"{block}.{n}", width, True)
    found.linear(f"{block}.attn.qkv", width, 3 * width)
    found.linear(f"{block}.attn.proj", width, width)
    found.linear(f"{block}.mlp.fc1", width, width + 8)
    found.linear(f"{block}.mlp.fc2", width + 8, width)
  found.norm(f"{of}.norm", width, True)


def stack(found: Shapes, name: str, size: int, width: int):
  """Two ConvNeXt blocks."""
  for i in range(2):
    of = f"{name}.mid_block.res_blocks.{i}"
    found.add(f"{of}.depthwise", (size, 1, 7, 7), size)
    found.norm(f"{of}.norm", size)
    found.linear(f"{of}.channelwise_linear_1", size, 4 * size)
    for n in ("weight", "bias"):
      found[f"{of}.channelwise_norm.{n}"] = (1, 1, 1, 4 * size)
    found.linear(f"{of}.channelwise_linear_2", 4 * size, size)
    found.linear(f"{of}.cond_embeds_mapper", width, 2 * size)
