"""JanusFlow as plain functions of arrays by their names, a row at a time.

Written from the papers' equations and the published names: a Llama (Touvron et al. 2023;
rotary positions: Su et al. 2021, eq. 15), a tower of pictures (Dosovitskiy et al. 2021)
without a pooling head, ConvNeXt V2 blocks (Woo et al. 2023) that the timestep scales and
shifts, sines of Vaswani et al. 2017. Time runs from noise to data. Nothing is kept
between two calls. Arrays are torch tensors; shares nothing with unijax.
"""

import json
import math
import pathlib

from tests.interop import plain

EPSILON, HEAD = 1e-6, 64
BOI, EOI = 257, 258  # behind the ids of bytes
CODEC, SCALE = "vae", 0.13025
ENTER, LEAVE = "vision_gen_enc_model", "vision_gen_dec_model"


class Model:
  """Weights by their names in a release: model.safetensors, and that of its folder."""

  def __init__(self, weights, published):
    self.w, self.published = weights, published
    self.llama = published["language_config"]
    self.begin = self.llama["bos_token_id"]

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    folder, published = pathlib.Path(folder), dict(self.published)
    inside = {n: x for n, x in self.w.items() if n.startswith(f"{CODEC}/")}
    own = {n: x for n, x in self.w.items() if n not in inside}
    inside = {n.removeprefix(f"{CODEC}/"): x for n, x in inside.items()}
    told = published.pop(CODEC)
    for place, weights, fields in (
      (folder, own, published),
      (folder / CODEC, inside, told),
    ):
      place.mkdir(exist_ok=True)
      name = "model" if place == folder else "diffusion_pytorch_model"
      save_file(weights, place / f"{name}.safetensors", {"format": "pt"})
      (place / "config.json").write_text(json.dumps(fields))

  def linear(self, name, x):
    y = x @ self.w[f"{name}.weight"].T
    return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

  def rms(self, name, x):
    return (
      x / ((x**2).mean(-1, keepdim=True) + EPSILON) ** 0.5 * self.w[f"{name}.weight"]
    )

  def count(self, template):
    return sum(template.format(i) in self.w for i in range(99))

  # -- the decoder -----------------------------------------------------------------------

  def embed(self, ids):
    return self.w["language_model.model.embed_tokens.weight"][ids]

  def hidden(self, x, sees):
    """[T, D] of vectors of a row; `sees` is bool [T, T]."""
    layer = "language_model.model.layers.{}"
    for i in range(self.count(f"{layer}.input_layernorm.weight")):
      name = layer.format(i)
      x = x + self.attention(
        f"{name}.self_attn", self.rms(f"{name}.input_layernorm", x), sees
      )
      y = self.rms(f"{name}.post_attention_layernorm", x)
      gate, up = (self.linear(f"{name}.mlp.{n}_proj", y) for n in ("gate", "up"))
      x = x + self.linear(f"{name}.mlp.down_proj", plain.swish(gate) * up)
    return self.rms("language_model.model.norm", x)

  def attention(self, name, x, sees):
    heads = self.llama["num_attention_heads"]
    q, k, v = (
      self.linear(f"{name}.{n}_proj", x).reshape(len(x), heads, -1).transpose(0, 1)
      for n in "qkv"
    )
    q, k = rotated(q, self.llama["rope_theta"]), rotated(k, self.llama["rope_theta"])
    scores = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).masked_fill(
      ~sees, -math.inf
    )
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1)
    return self.linear(f"{name}.o_proj", mixed)

  def logits(self, x):
    """[T, V] of a row that only looks back."""
    return self.linear("language_model.lm_head", self.hidden(x, causal(len(x))))

  # -- pictures that are read ------------------------------------------------------------

  def read(self, pixels):
    """[1 + P, D]: what stands in the place of BOI, and of the picture behind it."""
    import torch

    tower = "vision_und_enc_model.vision_tower"
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1.0
    kernel = self.w[f"{tower}.patch_embed.proj.weight"]
    x = plain.convolve(self.w, f"{tower}.patch_embed.proj", x, kernel.shape[-1], 0)
    x = x.flatten(2)[0].T + self.w[f"{tower}.pos_embed"][0]
    for i in range(self.count(f"{tower}.blocks.{{}}.norm1.weight")):
      name = f"{tower}.blocks.{i}"
      y = self.linear(f"{name}.attn.qkv", self.layer(f"{name}.norm1", x))
      q, k, v = y.reshape(len(x), 3, -1, HEAD).permute(1, 2, 0, 3)
      mixed = (q @ k.transpose(1, 2) / math.sqrt(HEAD)).softmax(-1) @ v
      x = x + self.linear(
        f"{name}.attn.proj", mixed.transpose(0, 1).reshape(len(x), -1)
      )
      y = gelu(self.linear(f"{name}.mlp.fc1", self.layer(f"{name}.norm2", x)))
      x = x + self.linear(f"{name}.mlp.fc2", y)
    features = self.linear("vision_und_enc_aligner", self.layer(f"{tower}.norm", x))
    return torch.cat([self.w["beg_of_und_embed"], features])

  def layer(self, name, x):
    centred = x - x.mean(-1, keepdim=True)
    y = centred / ((centred**2).mean(-1, keepdim=True) + EPSILON) ** 0.5
    return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

  def reading(self, row):
    """Vectors of a row of words (bytes) and pictures."""
    import torch

    parts = [self.embed(torch.tensor([self.begin]))]
    for part in row:
      shown = not isinstance(part, bytes)
      parts += [self.read(part)] if shown else []
      parts.append(self.embed(torch.tensor([EOI] if shown else list(part))))
    return torch.cat(parts)

  def write(self, row, count: int):
    """Ids of text, greedily."""
    import torch

    x, written = self.reading(row), []
    for _ in range(count):
      last = self.logits(x)[-1]
      last[BOI] = last[EOI] = -math.inf
      written.append(int(last.argmax()))
      x = torch.cat([x, self.embed(torch.tensor(written[-1:]))])
    return written

  # -- pictures that are drawn -----------------------------------------------------------

  def blocks(self, side, x, time):
    for i in range(self.count(f"{side}.mid_block.res_blocks.{{}}.norm.weight")):
      name = f"{side}.mid_block.res_blocks.{i}"
      depthwise = self.w[f"{name}.depthwise.weight"], self.w[f"{name}.depthwise.bias"]
      y = grouped(x, *depthwise).permute(0, 2, 3, 1)
      y = gelu(self.linear(f"{name}.channelwise_linear_1", self.rms(f"{name}.norm", y)))
      size = (y**2).sum((1, 2), keepdim=True).sqrt()
      response = y * size / (size.mean(-1, keepdim=True) + 1e-6)
      norm = f"{name}.channelwise_norm"
      y = self.w[f"{norm}.weight"] * response + self.w[f"{norm}.bias"] + y
      x = x + self.linear(f"{name}.channelwise_linear_2", y).permute(0, 3, 1, 2)
      change = self.linear(f"{name}.cond_embeds_mapper", plain.swish(time))
      scale, shift = change[None, :, None, None].chunk(2, dim=1)
      x = x * (1 + scale) + shift
    return x

  def velocity(self, words: bytes, z, t: float, blind: bool):
    """[1, C, h, w] of latents z at time t; `blind`: BOS alone is seen of the words."""
    import torch

    width = self.w[f"{ENTER}.in_conv.weight"].shape[0]
    time = self.linear(f"{ENTER}.time_embed.linear_1", waves(1000.0 * t, width))
    time = self.linear(f"{ENTER}.time_embed.linear_2", plain.swish(time))
    skip = self.blocks(ENTER, plain.convolve(self.w, f"{ENTER}.in_conv", z, 2, 0), time)
    patches = self.linear("vision_gen_enc_aligner", skip[0].flatten(1).T)
    said = self.embed(torch.tensor([self.begin, *words]))
    x = torch.cat([said, time[None], patches])
    sees = causal(len(x))
    if blind:
      sees[len(said) :, 1 : len(said)] = False
    h = self.hidden(x, sees)[-len(patches) :]
    h = self.linear(
      "vision_gen_dec_aligner", self.rms("vision_gen_dec_aligner_norm", h)
    )
    y = self.rms(f"{LEAVE}.input_norm", h).T.reshape(skip.shape)
    y = self.blocks(LEAVE, torch.cat([y, skip], dim=1), time).permute(0, 2, 3, 1)
    last = f"{LEAVE}.out_convs.0"
    y = self.rms(f"{last}.norm", y).permute(0, 3, 1, 2)
    y = plain.convolve(self.w, f"{last}.unpatch_conv", y)
    return torch.nn.functional.pixel_shuffle(y, 2)

  def draw(self, words: bytes, z, steps: int, guidance: float):
    """Latents [1, C, h, w] after Euler steps from noise z."""
    for i in range(steps):
      seen, blind = (self.velocity(words, z, i / steps, b) for b in (False, True))
      z = z + (guidance * seen - (guidance - 1) * blind) / steps
    return z

  def show(self, z):
    """[side, side, 3] in -1 .. 1 of latents, by the library's autoencoder."""
    import torch
    from diffusers import AutoencoderKL

    fields = {n: x for n, x in self.published[CODEC].items() if n[0] != "_"}
    codec = AutoencoderKL(**fields)
    inside = {
      n.removeprefix(f"{CODEC}/"): x for n, x in self.w.items() if n.startswith(CODEC)
    }
    codec.load_state_dict(inside)
    with torch.no_grad():
      return codec.eval().decode(z / SCALE).sample[0].permute(1, 2, 0)


def causal(length: int):
  import torch

  return torch.ones(length, length, dtype=torch.bool).tril()


def gelu(x):
  return 0.5 * x * (1.0 + (x / math.sqrt(2.0)).erf())


def grouped(x, kernel, bias):
  from torch.nn.functional import conv2d

  return conv2d(x, kernel, bias, padding=3, groups=len(kernel))


def waves(time: float, count: int):
  import torch

  half = count // 2
  angle = time * 10_000.0 ** (-torch.arange(half) / half)
  return torch.cat([angle.cos(), angle.sin()])


def rotated(x, theta: float):
  """[heads, T, K]: pairs (i, i + K / 2) of a head are turned."""
  import torch

  n = x.shape[-1]
  angle = torch.arange(x.shape[1])[:, None] * theta ** (-torch.arange(0, n, 2) / n)
  a, b = x.chunk(2, dim=-1)
  turned = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
  return torch.cat(turned, dim=-1)
