"""The autoencoder of latent diffusion as plain functions of arrays by their names.

Written from the equations (Rombach et al. 2022, arXiv 2112.10752, appendix E.1; group
norm: Wu & He 2018; attention: Vaswani et al. 2017, eq. 1) and the published names, for
systems that no library has. Arrays are torch tensors [B, C, H, W]; levels and blocks are
those that there are names for.
"""

import itertools
import json
import pathlib

GROUPS, EPSILON = 32, 1e-6


class Plain:
  """Weights that are kept and loaded as a library's model is."""

  def __init__(self, weights, published):
    self.weights, self.published = weights, published

  def save_pretrained(self, folder):
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    save_file(self.weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(self.published))


def load(folder):
  from safetensors.torch import load_file

  folder = pathlib.Path(folder)
  published = json.loads((folder / "config.json").read_text())
  return Plain(load_file(folder / "model.safetensors"), published)


def convolve(w, name, x, stride=1, padding=None):
  from torch.nn.functional import conv2d

  kernel = w[f"{name}.weight"]
  padding = kernel.shape[-1] // 2 if padding is None else padding
  return conv2d(x, kernel, w[f"{name}.bias"], stride, padding)


def norm(w, name, x):
  """Each group of channels over all places, then a scale and an offset a channel."""
  groups = x.reshape(len(x), GROUPS, -1)
  centred = groups - groups.mean(-1, keepdim=True)
  variance = (centred**2).mean(-1, keepdim=True)
  y = (centred / (variance + EPSILON) ** 0.5).reshape(x.shape)
  scale, offset = (w[f"{name}.{n}"][:, None, None] for n in ("weight", "bias"))
  return y * scale + offset


def swish(x):
  return x / (1.0 + (-x).exp())


def residual(w, name, x):
  y = x
  for number in (1, 2):
    y = convolve(w, f"{name}.conv{number}", swish(norm(w, f"{name}.norm{number}", y)))
  skip = f"{name}.nin_shortcut"
  return y + (convolve(w, skip, x) if f"{skip}.weight" in w else x)


def attention(w, name, x):
  """softmax(Q K' / sqrt(C)) V among all places, one head."""
  B, C, H, W = x.shape
  y = norm(w, f"{name}.norm", x)
  q, k, v = (
    convolve(w, f"{name}.{n}", y).reshape(B, C, H * W).transpose(1, 2) for n in "qkv"
  )
  mixed = (q @ k.transpose(1, 2) / C**0.5).softmax(-1) @ v
  return x + convolve(w, f"{name}.proj_out", mixed.transpose(1, 2).reshape(B, C, H, W))


def middle(w, name, x):
  x = attention(w, f"{name}.attn_1", residual(w, f"{name}.block_1", x))
  return residual(w, f"{name}.block_2", x)


def blocks(w, name, x):
  """All blocks of a level, in order."""
  for b in itertools.count():
    if f"{name}.block.{b}.conv1.weight" not in w:
      return x
    x = residual(w, f"{name}.block.{b}", x)


def levels(w, name) -> int:
  return sum(f"{name}.{i}.block.0.conv1.weight" in w for i in range(16))


def encode(w, x):
  """Pixels -> vectors; a halving sees one more row and column of zeros at the end."""
  from torch.nn.functional import pad

  x = convolve(w, "encoder.conv_in", x)
  for i in range(levels(w, "encoder.down")):
    x, halve = blocks(w, f"encoder.down.{i}", x), f"encoder.down.{i}.downsample.conv"
    if f"{halve}.weight" in w:
      x = convolve(w, halve, pad(x, (0, 1, 0, 1)), stride=2, padding=0)
  x = swish(norm(w, "encoder.norm_out", middle(w, "encoder.mid", x)))
  return convolve(w, "encoder.conv_out", x)


def decode(w, x):
  """Vectors -> pixels, from the smallest level to the largest."""
  x = middle(w, "decoder.mid", convolve(w, "decoder.conv_in", x))
  for i in reversed(range(levels(w, "decoder.up"))):
    x, double = blocks(w, f"decoder.up.{i}", x), f"decoder.up.{i}.upsample.conv"
    if f"{double}.weight" in w:
      twice = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
      x = convolve(w, double, twice)
  return convolve(w, "decoder.conv_out", swish(norm(w, "decoder.norm_out", x)))
