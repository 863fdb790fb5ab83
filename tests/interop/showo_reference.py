"""Show-o as plain functions of arrays by their names, a row at a time.

Written from the papers' equations and the published names: blocks whose attention and
MLP stand side by side (Gunasekar et al. 2023; rotary positions: Su et al. 2021, eq. 15,
on half of each head; layer norms of queries and keys: Dehghani et al. 2023), the mask of
Xie et al. 2024 (section 3.2), decoding of Chang et al. 2022 (section 3.2). Pictures are
those of `plain`. Rows are padded on the left, as the official ones are; nothing is kept
between two calls. Arrays are torch tensors; shares nothing with unijax.
"""

import json
import math
import pathlib

from tests.interop import family_magvit_v2, plain

EPSILON, THETA, PART = 1e-5, 10_000.0, 0.5
PAD, BOI, EOI, T2I, MMU = 0, 1, 2, 5, 6  # behind the ids of text
MARKS = 10
CODEC = "magvitv2"


class Model:
  """Weights by their names in a release: model.safetensors, and that of its folder."""

  def __init__(self, weights, published):
    self.w, self.published = weights, published
    self.codec = {
      n.removeprefix(f"{CODEC}/"): x for n, x in weights.items() if n.startswith(CODEC)
    }
    self.text, self.vocab = published["llm_vocab_size"], published["vocab_size"]
    self.first, self.end = self.text + MARKS, self.text - 1

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    own = {n: x for n, x in self.w.items() if "/" not in n}
    for place, weights in ((folder, own), (folder / CODEC, self.codec)):
      place.mkdir(exist_ok=True)
      save_file(weights, place / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(self.published))

  # -- the decoder -----------------------------------------------------------------------

  def linear(self, name, x):
    return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

  def norm(self, name, x):
    centred = x - x.mean(-1, keepdim=True)
    y = centred / ((centred**2).mean(-1, keepdim=True) + EPSILON) ** 0.5
    return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

  def attention(self, name, x, sees):
    """[T, D]; `sees` is bool [T, T]."""
    width = len(self.w[f"{name}.q_layernorm.weight"])
    q, k, v = (
      self.linear(f"{name}.{n}_proj", x).reshape(len(x), -1, width).transpose(0, 1)
      for n in "qkv"
    )
    q, k = (
      rotated(self.norm(f"{name}.{n}_layernorm", y)) for n, y in (("q", q), ("k", k))
    )
    scores = q @ k.transpose(1, 2) / math.sqrt(width)
    mixed = scores.masked_fill(~sees, -math.inf).softmax(-1) @ v
    return self.linear(f"{name}.dense", mixed.transpose(0, 1).reshape(len(x), -1))

  def logits(self, ids, sees):
    """[T, V] of a row."""
    import torch

    x = self.w["showo.model.embed_tokens.weight"][torch.as_tensor(ids)]
    depth = sum(n.endswith("input_layernorm.weight") for n in self.w)
    for i in range(depth):
      name = f"showo.model.layers.{i}"
      y = self.norm(f"{name}.input_layernorm", x)
      hidden = gelu(self.linear(f"{name}.mlp.fc1", y))
      mixed = self.attention(f"{name}.self_attn", y, sees)
      x = x + mixed + self.linear(f"{name}.mlp.fc2", hidden)
    return self.linear("showo.lm_head", self.norm("showo.model.final_layernorm", x))

  # -- rows ------------------------------------------------------------------------------

  def mark(self, number):
    return self.text + number

  def reading(self, codes, question: bytes):
    """(ids, sees): all up to EOI sees all of that, text what is earlier."""
    import torch

    ids = [self.mark(MMU), self.mark(BOI), *(self.first + c for c in codes)]
    ids += [self.mark(EOI), self.end, *question]
    index = torch.arange(len(ids))
    return ids, index[None] <= index[:, None].clamp(min=2 + len(codes))

  def drawing(self, words: bytes, codes, length: int):
    """(ids, sees) of a row that is padded on the left to `length` before BOI; codes are
    -1 where they are hidden."""
    import torch

    said = [self.mark(T2I), self.end, *words, self.end]
    pads = length - len(said)
    ids = [self.mark(PAD)] * pads + said + [self.mark(BOI)]
    ids += [self.vocab - 1 if c < 0 else self.first + c for c in codes]
    ids += [self.mark(EOI)]
    index = torch.arange(len(ids))
    sees = (index[None] <= index[:, None]) | (index[:, None] >= length)
    sees &= index[None] >= pads
    return ids, sees | (index[None] == index[:, None])

  def draw(self, words: bytes, length: int, steps: int, guidance: float):
    """Codes: of all that are hidden the likeliest, the least likely hidden again."""
    import torch

    P = self.published["num_vq_tokens"]
    codes = torch.full((P,), -1)
    for i in range(steps):
      here = slice(length + 1, length + 1 + P)
      with_text, without = (
        self.logits(*self.drawing(x, codes.tolist(), length))[here, self.first : -1]
        for x in (words, b"")
      )
      p = ((1 + guidance) * with_text - guidance * without).softmax(-1)
      guess = torch.where(codes < 0, p.argmax(-1), codes)
      sure = p.gather(1, guess[:, None])[:, 0].masked_fill(codes >= 0, math.inf)
      share = torch.cos(torch.tensor((i + 1) / steps) * math.pi * 0.5)
      again = max(1, min(int((codes < 0).sum()) - 1, int((P * share).floor())))
      codes = torch.where(sure < sure.sort().values[again], -1, guess)
    return guess

  def write(self, codes, question: bytes, count: int):
    """Ids of text, greedily."""
    ids, sees = self.reading(codes, question)
    written, eoi = [], 2 + len(codes)
    import torch

    for _ in range(count):
      index = torch.arange(len(ids))
      sees = index[None] <= index[:, None].clamp(min=eoi)
      last = self.logits(ids, sees)[-1, : self.first]
      last[self.mark(BOI)] = -math.inf
      written.append(int(last.argmax()))
      ids.append(written[-1])
    return written

  # -- pictures --------------------------------------------------------------------------

  def read(self, pixels):
    """Codes [P] of one picture, uint8 [side, side, 3]."""
    import torch

    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1.0
    z = plain.convolve(self.codec, "encoder.quant_conv", plain.encode(self.codec, x))
    bits = z.shape[1]
    return sum(
      2 ** (bits - 1 - i) * (z[0, i] > 0).long() for i in range(bits)
    ).flatten()

  def show(self, codes):
    """[side, side, 3] in -1 .. 1 of codes [P]."""
    import torch

    side, bits = math.isqrt(len(codes)), (self.vocab - 1 - self.first).bit_length() - 1
    powers = [2 ** (bits - 1 - i) for i in range(bits)]
    signs = torch.stack(
      [2.0 * (codes.reshape(side, side) // p % 2) - 1 for p in powers]
    )
    z = plain.convolve(self.codec, "decoder.post_quant_conv", signs[None])
    return plain.decode(self.codec, z)[0].permute(1, 2, 0)


def gelu(x):
  return 0.5 * x * (1.0 + ((2.0 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def rotated(x):
  """[heads, T, K]: pairs (i, i + n / 2) of the first n numbers of a head are turned."""
  import torch

  n = int(x.shape[-1] * PART)
  angle = torch.arange(x.shape[1])[:, None] * THETA ** (-torch.arange(0, n, 2) / n)
  a, b, rest = x[..., : n // 2], x[..., n // 2 : n], x[..., n:]
  turned = (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), rest)
  return torch.cat(turned, dim=-1)


def shapes(published, width: int, hidden: int, heads: int, depth: int, codec):
  """Name -> shape of every weight, from the published lists of names."""
  found = {}

  def linear(name, into, out):
    found[f"{name}.weight"], found[f"{name}.bias"] = (out, into), (out,)

  def norm(name, size):
    found[f"{name}.weight"] = found[f"{name}.bias"] = (size,)

  found["showo.model.embed_tokens.weight"] = (published["vocab_size"], width)
  for i in range(depth):
    name = f"showo.model.layers.{i}"
    for n in ("q_proj", "k_proj", "v_proj", "dense"):
      linear(f"{name}.self_attn.{n}", width, width)
    for n in "qk":
      norm(f"{name}.self_attn.{n}_layernorm", width // heads)
    linear(f"{name}.mlp.fc1", width, hidden)
    linear(f"{name}.mlp.fc2", hidden, width)
    norm(f"{name}.input_layernorm", width)
  norm("showo.model.final_layernorm", width)
  linear("showo.lm_head", width, published["vocab_size"])
  inside = family_magvit_v2.shapes(codec)
  return found | {f"{CODEC}/{n}": shape for n, shape in inside.items()}
