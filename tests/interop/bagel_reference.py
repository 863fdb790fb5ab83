"""BAGEL as plain functions of arrays by their names, a row at a time.

Written from the papers' equations and the published names: a decoder with RMS norms of
queries and keys (Yang et al. 2025) whose blocks have two sets of weights (Liang et al.
2024, algorithm 1), the second for latents; the mask, positions and guidance of Deng et
al. 2025 and their code's defaults; rectified flow from noise at time 1 (Liu et al.
2023); a vision transformer with layer norms before its branches (Dosovitskiy et al.
2021). Pictures become latents by `plain`. Nothing is kept between two calls. Arrays are
torch tensors; shares nothing with unijax.

A row is a list of pieces:

  ("ids", ids)                   words and their marks, each after the one before
  ("picture", pixels)            what the encoder of pictures says
  ("latents", x, time, alone)    patches [P, C]; `alone`: nothing else sees them
"""

import json
import math
import pathlib

import numpy as np

from tests.interop import plain

SCALE, SHIFT = 0.3611, 0.1159  # of latents
NAMES = ("start", "end", "boi", "eoi")  # of the last ids, in this order
SECOND = "_moe_gen"
FILE, CODEC, CODEC_FILE = "ema.safetensors", "ae", "ae.safetensors"


class Model:
  """Weights by their names in a release: ema.safetensors, and ae/.. of its other."""

  def __init__(self, weights, published):
    self.w, self.published = weights, published
    self.codec = {
      n.removeprefix(f"{CODEC}/"): x for n, x in weights.items() if n.startswith(CODEC)
    }
    self.llm, self.vit = published["llm_config"], published["vit_config"]
    vocab = self.llm["vocab_size"]
    self.mark = {n: vocab - len(NAMES) + i for i, n in enumerate(NAMES)}

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    own = {n: x for n, x in self.w.items() if "/" not in n}
    for file, weights in ((FILE, own), (CODEC_FILE, self.codec)):
      save_file(weights, folder / file, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(self.published))

  def linear(self, name, x):
    y = x @ self.w[f"{name}.weight"].T
    return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

  # -- pictures --------------------------------------------------------------------------

  def layer_norm(self, name, x):
    centred = x - x.mean(-1, keepdim=True)
    eps = self.vit.get("layer_norm_eps", 1e-6)
    y = centred / ((centred**2).mean(-1, keepdim=True) + eps) ** 0.5
    return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

  def look(self, pixels):
    """Features [P, D] of uint8 [rows, columns, 3] for the decoder, with their places."""
    import torch

    p, of = self.vit["patch_size"], "vit_model.vision_model"
    x = torch.from_numpy(np.array(pixels)) / 127.5 - 1.0
    rows, columns = x.shape[0] // p, x.shape[1] // p
    x = x.reshape(rows, p, columns, p, 3).permute(0, 2, 1, 3, 4).reshape(-1, p * p * 3)
    places = self.w["vit_pos_embed.pos_embed"]
    place = corner(rows, columns, math.isqrt(len(places)))
    x = self.linear(f"{of}.embeddings.patch_embedding", x)
    x = x + self.w[f"{of}.embeddings.position_embedding.weight"][place]
    depth = sum(n.startswith(of) and n.endswith("layer_norm1.weight") for n in self.w)
    for i in range(depth):
      name = f"{of}.encoder.layers.{i}"
      y = self.layer_norm(f"{name}.layer_norm1", x)
      q, k, v = (
        self.linear(f"{name}.self_attn.{n}_proj", y)
        .reshape(len(y), self.vit["num_attention_heads"], -1).transpose(0, 1)
        for n in "qkv"
      )  # fmt: skip
      mixed = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
      mixed = mixed.transpose(0, 1).reshape(x.shape)
      x = x + self.linear(f"{name}.self_attn.out_proj", mixed)
      y = gelu(
        self.linear(f"{name}.mlp.fc1", self.layer_norm(f"{name}.layer_norm2", x))
      )
      x = x + self.linear(f"{name}.mlp.fc2", y)
    x = self.layer_norm(f"{of}.post_layernorm", x)
    x = self.linear("connector.fc2", gelu(self.linear("connector.fc1", x)))
    return x + places[place]

  def latents(self, pixels):
    """Clean patches [P, C] of a picture: a square of latents is one, channels last."""
    import torch

    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 127.5 - 1.0
    mean = plain.encode(self.codec, x).chunk(2, dim=1)[0]
    z = ((mean - SHIFT) * SCALE)[0]
    p = self.patch(len(z))
    z = z.reshape(len(z), z.shape[1] // p, p, z.shape[2] // p, p)
    return z.permute(1, 3, 2, 4, 0).reshape(-1, p * p * len(z))

  def show(self, x):
    """[side, side, 3] in -1 .. 1 of patches [P, C]."""
    grid, numbers = math.isqrt(len(x)), self.codec["decoder.conv_in.weight"].shape[1]
    p = self.patch(numbers)
    z = x.reshape(grid, grid, p, p, numbers).permute(4, 0, 2, 1, 3)
    z = z.reshape(1, numbers, grid * p, grid * p) / SCALE + SHIFT
    return plain.decode(self.codec, z)[0].permute(1, 2, 0)

  def patch(self, numbers: int) -> int:
    return math.isqrt(self.w["vae2llm.weight"].shape[1] // numbers)

  def enter(self, x, time: float):
    """Patches of latents -> vectors, with their places and their time."""
    import torch

    table = self.w["latent_pos_embed.pos_embed"]
    grid = math.isqrt(len(x))
    angle = time * 10_000.0 ** (-torch.arange(128) / 128)
    waves = torch.cat([angle.cos(), angle.sin()])
    hidden = self.linear("time_embedder.mlp.0", waves)
    hidden = self.linear("time_embedder.mlp.2", hidden / (1.0 + (-hidden).exp()))
    place = corner(grid, grid, math.isqrt(len(table)))
    return self.linear("vae2llm", x) + hidden + table[place]

  # -- the decoder -----------------------------------------------------------------------

  def row(self, pieces):
    """(x [T, D], positions [T], sees bool [T, T], latent bool [T]) of a row."""
    import torch

    table = self.w["language_model.model.embed_tokens.weight"]
    x, position, block, alone, latent, at = [], [], [], [], [], 0
    for number, (kind, content, *more) in enumerate(pieces):
      if kind == "ids":
        x.append(table[torch.as_tensor(content)])
        position += range(at, at + len(content))
        block += [-1 - t for t in range(len(block), len(block) + len(content))]
        alone += [False] * len(content)
        latent += [False] * len(content)
        at += len(content)
        continue
      hidden = kind == "latents" and more[1]
      inside = self.look(content) if kind == "picture" else self.enter(content, more[0])
      x += [table[[self.mark["boi"]]], inside, table[[self.mark["eoi"]]]]
      count = len(inside) + 2
      position += [at] * count
      block += [number] * count
      alone += [hidden] * count
      latent += [False, *[kind == "latents"] * (count - 2), False]
      at += not hidden  # a clean copy stands at the same place
    block, alone = torch.tensor(block), torch.tensor(alone)
    same, index = block[:, None] == block[None], torch.arange(len(block))
    sees = (index[None] <= index[:, None]) & ~alone[None] | same
    return torch.cat(x), torch.tensor(position), sees, torch.tensor(latent)

  def norm(self, name, x, latent):
    """RMS norm with the scale of each position's set of weights."""
    import torch

    y = x / ((x**2).mean(-1, keepdim=True) + self.llm["rms_norm_eps"]) ** 0.5
    both = (self.w[f"{name}{n}.weight"] for n in (SECOND, ""))
    shape = (-1, *[1] * (x.dim() - 1))
    return y * torch.where(latent.reshape(shape), *both)

  def by_set(self, name, x, latent):
    """A linear map of each position by its own set of weights."""
    import torch

    words, latents = (self.linear(name.format(n), x) for n in ("", SECOND))
    return torch.where(latent[:, None], latents, words)

  def states(self, pieces):
    """Hidden states [T, D] of a row, and which are of latents."""
    x, position, sees, latent = self.row(pieces)
    heads = self.llm["num_attention_heads"]
    for i in range(self.llm["num_hidden_layers"]):
      name = f"language_model.model.layers.{i}"
      y = self.norm(f"{name}.input_layernorm", x, latent)
      q, k, v = (
        self.by_set(f"{name}.self_attn.{n}_proj{{}}", y, latent)
        .reshape(len(y), -1, self.llm["hidden_size"] // heads)
        for n in "qkv"
      )  # fmt: skip
      q, k = (
        rotated(self.norm(f"{name}.self_attn.{n}_norm", z, latent), position,
                self.llm["rope_theta"])
        for n, z in (("q", q), ("k", k))
      )  # fmt: skip
      k, v = (z.repeat_interleave(heads // z.shape[1], dim=1) for z in (k, v))
      q, k, v = (z.transpose(0, 1) for z in (q, k, v))
      scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
      mixed = scores.masked_fill(~sees, -math.inf).softmax(-1) @ v
      mixed = mixed.transpose(0, 1).reshape(x.shape[0], -1)
      x = x + self.by_set(f"{name}.self_attn.o_proj{{}}", mixed, latent)
      y = self.norm(f"{name}.post_attention_layernorm", x, latent)
      gate, up = (self.by_set(f"{name}.mlp{{}}.{n}_proj", y, latent)
                  for n in ("gate", "up"))  # fmt: skip
      gated = gate / (1.0 + (-gate).exp()) * up
      x = x + self.by_set(f"{name}.mlp{{}}.down_proj", gated, latent)
    return self.norm("language_model.model.norm", x, latent), latent

  def heads(self, pieces):
    """(logits [T, V], what the last image moves by [P, C]) of a row."""
    h, latent = self.states(pieces)
    logits = self.linear("language_model.lm_head", h)
    images = [p for p in pieces if p[0] == "latents"]
    if not images:
      return logits, None
    return logits, self.linear("llm2vae", h[latent][-len(images[-1][1]) :])

  # -- what is asked of it ---------------------------------------------------------------

  def said(self, text: bytes):
    return ("ids", [self.mark["start"], *text, self.mark["end"]])

  def write(self, pieces, count: int):
    """Ids of text, greedily."""
    written = []
    for _ in range(count):
      ids = ("ids", [self.mark["start"], *written])
      last = self.heads([*pieces, ids])[0][-1].clone()
      last[self.mark["boi"]] = -math.inf
      written.append(int(last.argmax()))
    return written

  def draw(
    self, noise, shown, text, scale, picture_scale, low, renorm, steps, before=(),
    thought=(),
  ):  # fmt: skip
    """Patches of an image from noise, by Euler, under one or two guidances.

    Args:
      noise: [P, C].
      shown: pieces of pictures, which stand before the words.
      text: of the words.
      scale, picture_scale: of the guidances; they act at times above `low`.
      renorm: global, channel or text_channel.
      steps: of the solver.
      before: pieces before all else, which every guidance has.
      thought: pieces behind the words, which none contrasts with.
    """
    import torch

    times = torch.linspace(1.0, 0.0, steps + 1)
    times = 3.0 * times / (1.0 + 2.0 * times)
    x, said = noise, self.said(text)
    for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
      image = ("latents", x, t, False)
      v = whole = self.heads([*before, *shown, said, *thought, image])[1]
      if t > low:
        without = self.heads([*before, *shown, image])[1]
        v = without + scale * (whole - without)
        if renorm == "text_channel":
          v = shorter(v, whole, -1)
        if picture_scale > 1:
          blind = self.heads([*before, said, image])[1]
          v = blind + picture_scale * (v - blind)
        if renorm != "text_channel":
          v = shorter(v, whole, -1 if renorm == "channel" else (0, 1))
      x = x + (s - t) * v
    return x


def shorter(v, whole, axes):
  """v, of the length that `whole` has or shorter; [P, C]."""
  size, own = ((y**2).sum(axes, keepdim=True) ** 0.5 for y in (v, whole))
  return v * (own / (size + 1e-8)).clamp(0.0, 1.0)


def corner(rows: int, columns: int, side: int):
  """Places of a grid in a table of `side` a side, row by row."""
  import torch

  return (torch.arange(rows)[:, None] * side + torch.arange(columns)).flatten()


def gelu(x):
  return 0.5 * x * (1.0 + ((2.0 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def rotated(x, position, theta):
  """[T, heads, K]: pairs (i, i + K / 2) are turned (Su et al. 2021, eq. 15)."""
  import torch

  n = x.shape[-1]
  angle = position[:, None] * theta ** (-torch.arange(0, n, 2) / n)
  cos, sin = angle.cos()[:, None], angle.sin()[:, None]
  a, b = x[..., : n // 2], x[..., n // 2 :]
  return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
