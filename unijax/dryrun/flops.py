"""FLOPs of the decoder by part, counted by hand from the config and real rows.

Two FLOPs a multiply-add of matrix products and convolutions; norms, softmax and the
optimizer are left out, as is usual (Chowdhery et al. 2022, appendix B). Attention
counts only the keys that the interval mask shows. Encoders, bridges and tasks other
than the decoder's are not here: `products` counts the whole of any step. It cannot see
which positions and keys are of use; that is what this module is for.
"""

import dataclasses

import numpy as np

from unijax.config import Config
from unijax.config_sections import ModelConfig
from unijax.nn import timestep
from unijax.types import Batch


def _maps(m: ModelConfig) -> int:
  """Products of an MLP: gate, if it has one, up and down."""
  return 3 if m.mlp == "swiglu" else 2


def _dense(m: ModelConfig) -> int:
  return _maps(m) * m.width * m.mlp_width


def _routed(m: ModelConfig) -> int:
  active = m.experts_per_token + m.shared_experts
  return _maps(m) * m.width * active * m.expert_width + m.width * m.experts


# Multiply-adds of the MLP that one position goes through, by `model.sharing`: copies
# for modalities cost what one costs, of routed experts only the chosen ones count.
MLP_OF_A_POSITION = {
  "shared": _dense, "ffn": _dense, "full": _dense, "experts": _routed,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Layout:
  """What rows hold, on average.

  Attributes:
    positions: a row, padding too; the compiled step computes them all.
    tokens: positions that are no padding.
    patches: positions of image patches.
    images: a row.
    visible: keys that the interval mask shows, summed over the queries of a row.
    rows: read for these averages; 0 if they were not measured.
  """

  positions: float
  tokens: float
  patches: float
  images: float
  visible: float
  rows: int

  @property
  def padding(self) -> float:
    """Share of empty positions."""
    return 1 - self.tokens / self.positions

  def padded(self, images: int) -> "Layout":
    """The same with every position and all slots of images in use, as compiled."""
    return dataclasses.replace(
      self, tokens=self.positions, patches=self.positions, images=images
    )


def measure(batch: Batch, image_mask: str) -> Layout:
  """Averages over the rows of a batch."""
  from unijax.nn import masks

  segment, span = np.asarray(batch.segment_BT), np.asarray(batch.span_BT)
  start, end = masks.intervals(span, segment, image_mask)
  hidden = masks.hidden_spans(span, batch.hidden_BT)
  shown = np.asarray(masks.shown(start, end, hidden))
  used = segment > 0
  rows, positions = segment.shape
  return Layout(
    positions=positions,
    tokens=used.sum() / rows,
    patches=(np.asarray(batch.patch_BT) >= 0).sum() / rows,
    images=(np.asarray(batch.patch_BT) == 0).sum() / rows,
    visible=(shown * used).sum(dtype=np.int64) / rows,
    rows=rows,
  )


def everything(config: Config) -> Layout:
  """What a dense step computes: every position, every slot, every key."""
  T = config.data.seq_len
  return Layout(T, T, T, config.data.images_per_row, T * T, 0)


def forward(config: Config, vocab: int, row: Layout) -> dict[str, float]:
  """FLOPs of one row's forward pass, by part of the model."""
  m = config.model
  width, hidden = m.width, m.heads * m.head_dim
  attention_maps = width * (2 * hidden + 2 * m.kv_heads * m.head_dim)
  parts = {
    "attention_maps": m.depth * row.tokens * attention_maps,
    "attention": m.depth * row.visible * 2 * hidden,
    "mlp": m.depth * row.tokens * MLP_OF_A_POSITION[m.sharing](m),
    "text_head": row.tokens * width * (vocab - _adapted(config)),
    "codes": row.tokens * _adapter(config),
    "time": row.patches * config.write.timed * _time(config),
    "patches": _patches(config, row),
    "denoiser": _denoiser(config, row),
    "image_head": row.patches * _image_head(config),
  }
  return {name: 2.0 * count for name, count in parts.items()}


def _adapted(config: Config) -> int:
  """Codes that do without a row of the token table."""
  return 0 if config.model.code_adapter == "none" else config.codebook


def _adapter(config: Config) -> int:
  """Multiply-adds of a position in the layers of codes; mirrors `nn.codes`."""
  m, codes = config.model, _adapted(config)
  return bool(codes) * m.width * (m.code_width + 2 * m.width + codes)


def _time(config: Config) -> int:
  """Multiply-adds of a patch in the timestep's vector, and in what it modulates."""
  m, d = config.model, config.denoiser
  width = d.width if d.depth else m.width
  vector = m.time_features * width + width**2 + bool(d.depth) * width * m.width
  maps = 6 if d.depth else 8  # with a denoiser, what leaves is its own to modulate
  return vector + (m.time_injection == "adaln") * maps * m.width**2


def _denoiser(config: Config, row: Layout) -> float:
  """Multiply-adds of the blocks that only denoise; mirrors `nn.denoiser`."""
  m, d = config.model, config.denoiser
  if not d.depth:
    return 0
  heads = d.heads * d.head_dim
  maps = d.width * (2 * heads + 2 * d.kv_heads * d.head_dim + 3 * d.mlp_width)
  total = row.tokens * ((m.width + d.width) * d.width + d.depth * maps)
  total += d.depth * row.visible * 2 * heads
  return total + row.images * (6 * d.depth + 2) * d.width**2


def _leaving(config: Config) -> int:
  """Width of what the patch codec makes predictions of."""
  return config.denoiser.width if config.denoiser.depth else config.model.width


def _image_head(config: Config) -> int:
  """Multiply-adds of a patch in the head of its own; mirrors `nn.heads`."""
  m, channels = config.model, config.patch_channels
  head = m.head_width
  time = timestep.TIME_FEATURES * head + head**2
  layer = 5 * head**2  # in, out, and the three of its modulation
  denoiser = m.width * head + time + 2 * channels * head + 2 * head**2
  denoised = config.train.token_draws * (denoiser + m.head_depth * layer)
  return {
    "token_diffusion": denoised,
    "masked_diffusion": denoised,
    "regression": m.width * head + (m.head_depth - 1) * head**2 + head * channels,
    "gmm": m.width * m.mixtures * (1 + 2 * channels),
  }.get(m.write, 0)


def _patches(config: Config, row: Layout) -> float:
  """Multiply-adds of the patch codec both ways."""
  m, channels = config.model, config.patch_channels
  if m.patch_codec == "linear":
    return row.patches * channels * (m.width + _leaving(config))
  return row.images * {"unet": _unet, "convnext": _convnext}[m.patch_codec](config)


def _unet(config: Config) -> float:
  """Multiply-adds of the U-Net on one image; mirrors `nn.patches.UNetPatches`.

  Products of a kernel with the zeros around an image are not counted.
  """
  m, patch = config.model, config.data.patch_size
  levels = patch.bit_length() - 1
  widths = [m.unet_width * 2**i for i in range(levels + 1)]
  pixel_channels = config.patch_channels // patch**2
  sides = [config.grid * patch // 2**i for i in range(levels + 1)]
  taps = [(3 * side - 2) ** 2 for side in sides]  # of a 3 x 3 kernel, over an image

  def block(level, given):
    w = widths[level]
    skip = sides[level] ** 2 * given * w if given != w else 0
    return taps[level] * (given * w + w * w) + skip + m.width * w

  total = taps[0] * 2 * pixel_channels * widths[0]  # stem and leave
  total += config.patches * widths[-1] * (m.width + _leaving(config))  # enter, back
  for level, w in enumerate(widths):
    total += 2 * m.unet_blocks * block(level, w)
    total += block(level, 2 * w) - block(level, w)  # the first block up takes the skip
    if level < levels:
      halved = (3 * sides[level + 1] - 1) ** 2  # stride 2 pads one side only
      total += halved * w * widths[level + 1]
      total += taps[level] * widths[level + 1] * w  # double
  return total


def _convnext(config: Config) -> float:
  """Multiply-adds of ConvNeXt stacks on one image; mirrors `nn.patches`."""
  m, P, grid = config.model, config.patches, config.grid
  seen = sum(min(i + 3, grid - 1) - max(i - 3, 0) + 1 for i in range(grid))

  def block(w):
    return seen**2 * w + 2 * P * w * 4 * w + m.width * 2 * w

  w = m.unet_width
  through = m.width + _leaving(config)
  maps = P * (3 * config.patch_channels * w + w * through)  # leave is twice as wide
  return maps + m.unet_blocks * (block(w) + block(2 * w))


def share(config: Config, vocab: int, row: Layout) -> float:
  """Share of what a dense step of the decoder computes that these rows hold."""
  part, whole = (forward(config, vocab, x) for x in (row, everything(config)))
  return sum(part.values()) / sum(whole.values())
