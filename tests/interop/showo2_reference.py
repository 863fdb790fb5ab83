"""Show-o2 as plain functions of arrays by their names, a row at a time.

Written from the papers' equations and the published names: a Qwen2 (Yang et al. 2024;
rotary positions: Su et al. 2021, eq. 15), layers of a vision transformer (Dosovitskiy et
al. 2021) beside a linear map of the same latents, blocks with adaLN-Zero (Peebles & Xie
2023) whose rotary frequencies are stretched (Grattafiori et al. 2024, as released).
Time runs from noise to data. Nothing is kept between two calls. Arrays are torch
tensors; shares nothing with unijax.

A row is a list of pieces: ("ids", ids) or ("image", latents [C, h, w], time), of which
an image is its time and its patches, which all see one another.
"""

import json
import math
import pathlib

from tests.interop import plain

CODEC = "vae"
VISION_HEAD, VISION_EPS = 72, 1e-6
HEAD_EPS, LAST_EPS, FUSION_EPS = 1e-5, 1e-6, 1e-6
THETA, FACTOR, LOW, HIGH, LENGTH = 5e5, 32.0, 1.0, 4.0, 8192
MARKS = ("start", "end", "boi", "eoi")  # the last ids, in this order
SYSTEM = "system\nYou are a helpful assistant."
PATCH = 2
MODULATED = True  # images alone; a reference that errs modulates all


class Model:
  """Weights by their names in a release: its own, and those of its folder."""

  def __init__(self, weights, published):
    self.w, self.published = weights, published
    vocab = len(weights["showo.model.embed_tokens.weight"])
    self.mark = {n: vocab - len(MARKS) + i for i, n in enumerate(MARKS)}

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    folder, published = pathlib.Path(folder), dict(self.published)
    own = {n: x for n, x in self.w.items() if not n.startswith(f"{CODEC}/")}
    for place, weights, fields in (
      (folder / CODEC, self.codec(), published.pop(CODEC)), (folder, own, published),
    ):  # fmt: skip
      place.mkdir(exist_ok=True)
      save_file(weights, place / "model.safetensors", {"format": "pt"})
      (place / "config.json").write_text(json.dumps(fields))

  def codec(self):
    inside = f"{CODEC}/"
    return {
      n.removeprefix(inside): x for n, x in self.w.items() if n.startswith(inside)
    }

  def linear(self, name, x):
    y = x @ self.w[f"{name}.weight"].T
    return y + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else y

  def rms(self, name, x, eps):
    size = ((x**2).mean(-1, keepdim=True) + eps) ** 0.5
    return x / size * self.w[f"{name}.weight"]

  def count(self, template):
    return sum(template.format(i) in self.w for i in range(99))

  # -- images ----------------------------------------------------------------------------

  def patched(self, name, z):
    """[P, D] of latents [C, h, w]."""
    x = plain.convolve(self.w, f"{name}.proj", z[None], PATCH, 0)
    return x.flatten(2)[0].T

  def layers(self, x):
    """The layers of SigLIP over [P, D]."""
    for i in range(self.count("und_trans.layers.{}.layer_norm1.weight")):
      name = f"und_trans.layers.{i}"
      y = self.layer_norm(f"{name}.layer_norm1", x)
      q, k, v = (
        self.linear(f"{name}.self_attn.{n}_proj", y)
        .reshape(len(x), -1, VISION_HEAD).transpose(0, 1)
        for n in "qkv"
      )  # fmt: skip
      mixed = (q @ k.transpose(1, 2) / math.sqrt(VISION_HEAD)).softmax(-1) @ v
      mixed = mixed.transpose(0, 1).reshape(x.shape)
      x = x + self.linear(f"{name}.self_attn.out_proj", mixed)
      y = self.linear(f"{name}.mlp.fc1", self.layer_norm(f"{name}.layer_norm2", x))
      x = x + self.linear(f"{name}.mlp.fc2", gelu_tanh(y))
    return x

  def layer_norm(self, name, x):
    centred = x - x.mean(-1, keepdim=True)
    y = centred / ((centred**2).mean(-1, keepdim=True) + VISION_EPS) ** 0.5
    return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

  def enter(self, z):
    """[P, D] of latents: both paths, side by side into two layers."""
    import torch

    seen = self.patched("image_embedder_und", z) + self.w["position_embedding.weight"]
    both = [self.layers(seen), self.patched("image_embedder_gen", z)]
    x = self.rms("fusion_proj.0", torch.cat(both, dim=-1), FUSION_EPS)
    return self.linear("fusion_proj.3", gelu(self.linear("fusion_proj.1", x)))

  def time(self, t: float):
    """The vector of a timestep, as wide as the head."""
    numbers = self.w["time_embed.mlp.0.weight"].shape[1]
    hidden = plain.swish(self.linear("time_embed.mlp.0", waves(t, numbers)))
    return self.linear("time_embed.mlp.2", hidden)

  # -- rows ------------------------------------------------------------------------------

  def heads(self, pieces):
    """(logits [T, V], velocity [C, h, w] of the last image or None) of a row."""
    import torch

    parts, times, inside = [], [], []
    for kind, content, *more in pieces:
      if kind == "ids":
        table = self.w["showo.model.embed_tokens.weight"]
        parts.append(table[torch.as_tensor(content)])
      else:
        times.append(self.time(more[0]))
        before = self.linear("time_embed_proj", times[-1])
        parts.append(torch.cat([before[None], self.enter(content)]))
      inside += [len(times) - 1 if kind == "image" else -1] * len(parts[-1])
    number = torch.tensor(inside)
    sees = torch.ones(len(number), len(number), dtype=torch.bool).tril()
    sees |= (number[:, None] == number) & (number >= 0)
    h = self.decoded(torch.cat(parts), sees)
    logits = self.linear("showo.lm_head", h)
    if not times:
      return logits, None
    said = self.denoised(h, torch.stack(times), number, sees)
    last = said[number == len(times) - 1][1:]  # without the time
    side = math.isqrt(len(last)) * PATCH
    return logits, last.reshape(side, side, -1).permute(2, 0, 1)  # line by line

  def decoded(self, x, sees):
    """[T, D] after the Qwen2."""
    eps, layer = self.published["rms_norm_eps"], "showo.model.layers.{}"
    heads = self.published["num_attention_heads"]
    width = x.shape[1] // heads
    turn = frequencies(width, self.published["rope_theta"])
    for i in range(self.count(f"{layer}.input_layernorm.weight")):
      name = layer.format(i)
      y = self.rms(f"{name}.input_layernorm", x, eps)
      x = x + self.attention(f"{name}.self_attn", y, sees, width, turn)
      y = self.rms(f"{name}.post_attention_layernorm", x, eps)
      x = x + self.gated(f"{name}.mlp", y)
    return self.rms("showo.model.norm", x, eps)

  def denoised(self, h, times, number, sees):
    """[T, numbers of a patch]: velocities in the places of images."""
    x = self.linear("diff_proj.2", gelu(self.linear("diff_proj.0", h)))
    layer = "diffusion_head_a.{}"
    width = len(self.w["diffusion_head_a.0.self_attn.q_norm.weight"])
    turn = stretched(width)
    for i in range(self.count(f"{layer}.input_layernorm.weight")):
      name = layer.format(i)
      changes = self.changes(name, times, number, 6)
      for start, norm, branch in (
        (0, "input_layernorm", "self_attn"), (3, "post_attention_layernorm", "mlp"),
      ):  # fmt: skip
        shift, scale, gate = changes[start : start + 3]
        y = self.rms(f"{name}.{norm}", x, HEAD_EPS) * (1 + scale) + shift
        if branch == "mlp":
          y = self.gated(f"{name}.mlp", y)
        else:
          y = self.attention(f"{name}.self_attn", y, sees, width, turn)
        x = x + gate * y
    shift, scale = self.changes("diffusion_head_b", times, number, 2)
    x = self.rms("diffusion_head_b.norm_final", x, LAST_EPS) * (1 + scale) + shift
    return self.linear("diffusion_head_b.linear", x)

  def changes(self, name, times, number, count: int):
    """What the timestep changes at each position; nothing outside of images."""
    said = self.linear(f"{name}.adaLN_modulation.1", plain.swish(times))
    parts = said[number.clamp(min=0)].chunk(count, dim=-1)
    here = (number >= 0)[:, None] | (not MODULATED)
    return [
      part.where(here, part * 0 + (i % 3 == 2)) for i, part in enumerate(parts)
    ]  # gates are one elsewhere

  def gated(self, name, x):
    gate, up = (self.linear(f"{name}.{n}_proj", x) for n in ("gate", "up"))
    return self.linear(f"{name}.down_proj", plain.swish(gate) * up)

  def attention(self, name, x, sees, width, turn):
    q, k, v = (
      self.linear(f"{name}.{n}_proj", x).reshape(len(x), -1, width).transpose(0, 1)
      for n in "qkv"
    )
    if f"{name}.q_norm.weight" in self.w:
      q, k = (
        self.rms(f"{name}.q_norm", q, LAST_EPS),
        self.rms(f"{name}.k_norm", k, LAST_EPS),
      )
    q, k = rotated(q, turn), rotated(k, turn)
    k, v = (y.repeat_interleave(len(q) // len(y), dim=0) for y in (k, v))
    scores = (q @ k.transpose(1, 2) / math.sqrt(width)).masked_fill(~sees, -math.inf)
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1)
    return self.linear(f"{name}.o_proj", mixed)

  # -- what the scripts do ---------------------------------------------------------------

  def asking(self, z, question: bytes):
    """Pieces of a row that asks about a picture."""
    m = self.mark
    return [
      ("ids", [m["start"], *SYSTEM.encode(), m["end"], *b"\n", m["start"], *b"user\n",
               m["boi"]]),
      ("image", z, 1.0),
      ("ids", [m["eoi"], *question, *b"\n", m["start"], *b"assistant\n"]),
    ]  # fmt: skip

  def drawing(self, words: bytes, z, t: float):
    """Pieces of a row that draws, up to its image."""
    return [("ids", [self.mark["start"], *words, self.mark["boi"]]), ("image", z, t)]

  def write(self, pieces, count: int):
    """Ids of text, greedily."""
    written = []
    for _ in range(count):
      ids = [("ids", written)] if written else []
      last = self.heads([*pieces, *ids])[0][-1].clone()
      last[self.mark["boi"]] = -math.inf
      written.append(int(last.argmax()))
    return written

  def draw(self, words: bytes, z, steps: int, guidance: float, shift: float):
    """Latents [C, h, w] after Euler steps from noise z."""
    points = [i / steps for i in range(steps + 1)]
    points = [t / (t + shift - shift * t) for t in points]
    for t, after in zip(points, points[1:], strict=False):
      seen, blind = (self.heads(self.drawing(w, z, t))[1] for w in (words, b""))
      z = z + (after - t) * (blind + guidance * (seen - blind))
    return z


def gelu(x):
  return 0.5 * x * (1.0 + (x / math.sqrt(2.0)).erf())


def gelu_tanh(x):
  return 0.5 * x * (1.0 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def waves(time: float, count: int):
  import torch

  half = count // 2
  angle = time * 10_000.0 ** (-torch.arange(half) / half)
  return torch.cat([angle.cos(), angle.sin()])


def frequencies(width: int, theta: float):
  import torch

  return theta ** (-torch.arange(0, width, 2) / width)


def stretched(width: int):
  """Wavelengths beyond LENGTH / LOW are FACTOR times as long, between there is a blend."""
  kept = frequencies(width, THETA)
  share = ((LENGTH * kept / (2 * math.pi) - LOW) / (HIGH - LOW)).clamp(0, 1)
  return share * kept + (1 - share) * kept / FACTOR


def rotated(x, turn):
  """[heads, T, K]: pairs (i, i + K / 2) of a head are turned."""
  import torch

  angle = torch.arange(x.shape[1])[:, None] * turn
  a, b = x.chunk(2, dim=-1)
  turned = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
  return torch.cat(turned, dim=-1)
