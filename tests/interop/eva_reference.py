"""EVA-CLIP in plain NumPy, from its papers' formulas and its files' names.

Fang et al. 2023 (arXiv 2303.11331), Sun et al. 2023 (2303.15389). A picture and a head
at a time, in float64; shares nothing with unijax.
"""

import json
import math

import numpy as np

NORMAL = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
THETA = 10000.0


class Model:
  """Both towers of a model config, with the weights of a file.

  Attributes:
    config: as its repository writes it.
    w: name -> float64 array; None before there are any.
  """

  def __init__(self, config, weights=None):
    self.config, self.w = config, weights

  def save_pretrained(self, folder):
    from safetensors.numpy import save_file

    arrays = {n: np.zeros(s, np.float32) for n, s in shapes(self.config).items()}
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(self.config))

  def picture(self, pixels):
    """[size, size, 3] in 0 .. 255 -> (vector for comparison, patches [P, D])."""
    w, c = self.w, self.config["vision_cfg"]
    mean, std = map(np.asarray, NORMAL)
    pixels, p = (pixels / 255.0 - mean) / std, c["patch_size"]
    grid = c["image_size"] // p
    kernel = w["visual.patch_embed.proj.weight"]
    x = [w["visual.cls_token"][0, 0]]
    for row in range(grid):
      for column in range(grid):
        patch = pixels[row * p : (row + 1) * p, column * p : (column + 1) * p]
        value = np.einsum("ocyx,yxc->o", kernel, patch)
        x.append(value + w["visual.patch_embed.proj.bias"])
    x = np.stack(x) + w["visual.pos_embed"][0]
    for i in range(c["layers"]):
      x = self._block(x, f"visual.blocks.{i}.", grid)
    x = norm(x, w, "visual.norm", 1e-6)
    return x[0] @ w["visual.head.weight"].T + w["visual.head.bias"], x[1:]

  def text(self, tokens):
    """[T] -> (vector for comparison, hidden states [T, D]); the largest id is the end."""
    w, c = self.w, self.config["text_cfg"]
    x = w["text.token_embedding.weight"][tokens]
    x = x + w["text.positional_embedding"][: len(tokens)]
    hidden = np.triu(np.ones((len(tokens),) * 2, bool), 1)
    for i in range(c["layers"]):
      of = f"text.transformer.resblocks.{i}."
      y = norm(x, w, f"{of}ln_1", 1e-5)
      y = y @ w[f"{of}attn.in_proj_weight"].T + w[f"{of}attn.in_proj_bias"]
      y = attention(*np.split(y, 3, axis=-1), c["heads"], hidden)
      x = x + y @ w[f"{of}attn.out_proj.weight"].T + w[f"{of}attn.out_proj.bias"]
      y = linear(norm(x, w, f"{of}ln_2", 1e-5), w, f"{of}mlp.c_fc")
      x = x + linear(gelu(y), w, f"{of}mlp.c_proj")
    x = norm(x, w, "text.ln_final", 1e-5)
    return x[int(np.argmax(tokens))] @ w["text.text_projection"], x

  def _block(self, x, of, grid):
    w, c = self.w, self.config["vision_cfg"]
    mix = lambda y: self._mix(y, f"{of}attn.", grid)
    think = lambda y: self._think(y, f"{of}mlp.")
    for branch, name in ((mix, "norm1"), (think, "norm2")):
      if c.get("postnorm"):
        x = x + norm(branch(x), w, of + name, 1e-6)
      else:
        x = x + branch(norm(x, w, of + name, 1e-6))
    return x

  def _mix(self, x, of, grid):
    w, c = self.w, self.config["vision_cfg"]
    heads = c["width"] // c["head_width"]
    if f"{of}qkv.weight" in w:
      q, k, v = np.split(x @ w[f"{of}qkv.weight"].T, 3, axis=-1)
    else:
      q, k, v = (x @ w[f"{of}{n}_proj.weight"].T for n in "qkv")
    q, v = q + w[f"{of}q_bias"], v + w[f"{of}v_bias"]
    if c.get("rope"):
      q, k = (turned(y, heads, grid, c["pt_hw_seq_len"]) for y in (q, k))
    y = attention(q, k, v, heads)
    if c.get("subln"):
      y = norm(y, w, f"{of}inner_attn_ln", 1e-6)
    return linear(y, w, f"{of}proj")

  def _think(self, x, of):
    w, c = self.w, self.config["vision_cfg"]
    if not c.get("naiveswiglu"):
      return linear(gelu(linear(x, w, f"{of}fc1")), w, f"{of}fc2")
    gate = linear(x, w, f"{of}w1")
    y = gate / (1 + np.exp(-gate)) * linear(x, w, f"{of}w2")
    if c.get("subln"):
      y = norm(y, w, f"{of}ffn_ln", 1e-6)
    return linear(y, w, f"{of}w3")


def turned(x, heads, grid, trained):
  """Rotates pairs of neighbours: half of a head by the row, half by the column.

  The class token, which is first, stands still.
  """
  size = x.shape[-1] // heads
  x = x.reshape(len(x), heads, size).copy()
  for place in range(grid**2):
    for half, number in enumerate(divmod(place, grid)):
      for j in range(size // 4):
        angle = number * trained / grid * THETA ** (-2 * j / (size / 2))
        a = half * size // 2 + 2 * j
        first, second = x[1 + place, :, a].copy(), x[1 + place, :, a + 1].copy()
        x[1 + place, :, a] = first * np.cos(angle) - second * np.sin(angle)
        x[1 + place, :, a + 1] = second * np.cos(angle) + first * np.sin(angle)
  return x.reshape(len(x), -1)


def attention(q, k, v, heads, hidden=None):
  mixed = []
  split = (np.split(x, heads, axis=-1) for x in (q, k, v))
  for query, key, value in zip(*split, strict=True):
    scores = query @ key.T / math.sqrt(query.shape[-1])
    if hidden is not None:
      scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed.append(weights / weights.sum(-1, keepdims=True) @ value)
  return np.concatenate(mixed, axis=-1)


def norm(x, w, name, eps):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
  return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
  return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x):
  return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def shapes(config):
  """Name -> shape of everything in a file, tables of rotations left out."""
  v, t, shared = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
  width, patch = v["width"], v["patch_size"]
  mlp = int(width * v["mlp_ratio"])
  found = {
    "logit_scale": (), "visual.cls_token": (1, 1, width),
    "visual.pos_embed": (1, 1 + (v["image_size"] // patch) ** 2, width),
    "visual.patch_embed.proj.weight": (width, 3, patch, patch),
    "visual.patch_embed.proj.bias": (width,), "visual.norm.weight": (width,),
    "visual.norm.bias": (width,), "visual.head.weight": (shared, width),
    "visual.head.bias": (shared,), "text.text_projection": (t["width"], shared),
    "text.positional_embedding": (t["context_length"], t["width"]),
    "text.token_embedding.weight": (t["vocab_size"], t["width"]),
    "text.ln_final.weight": (t["width"],), "text.ln_final.bias": (t["width"],),
  }  # fmt: skip

  def both(name, *shape):
    found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

  for i in range(v["layers"]):
    of = f"visual.blocks.{i}."
    both(f"{of}norm1", width)
    both(f"{of}norm2", width)
    both(f"{of}attn.proj", width, width)
    found |= {f"{of}attn.{n}_bias": (width,) for n in "qv"}
    if v.get("rope"):
      found |= {f"{of}attn.{n}_proj.weight": (width, width) for n in "qkv"}
    else:
      found[f"{of}attn.qkv.weight"] = (3 * width, width)
    if v.get("subln"):
      both(f"{of}attn.inner_attn_ln", width)
      both(f"{of}mlp.ffn_ln", mlp)
    gated = v.get("naiveswiglu")
    for name in ("w1", "w2") if gated else ("fc1",):
      both(f"{of}mlp.{name}", mlp, width)
    both(f"{of}mlp.{'w3' if gated else 'fc2'}", width, mlp)
  width = t["width"]
  for i in range(t["layers"]):
    of = f"text.transformer.resblocks.{i}."
    both(f"{of}ln_1", width)
    both(f"{of}ln_2", width)
    found[f"{of}attn.in_proj_weight"] = (3 * width, width)
    found[f"{of}attn.in_proj_bias"] = (3 * width,)
    both(f"{of}attn.out_proj", width, width)
    both(f"{of}mlp.c_fc", 4 * width, width)
    both(f"{of}mlp.c_proj", width, 4 * width)
  return found
