"""Names of the autoencoder of latent diffusion in files of codes, and what is shared.

Files that hold a picture's tokenizer number levels and blocks in one of two ways, which
`keys` is given. Their attention is written as 1x1 convolutions.
"""

import dataclasses

from configs.codecs import common
from configs.released.autoencoder_kl import conv, norm
from unijax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the parts are called.

  Attributes:
    down, up: a level of the encoder, of the decoder; {i} is 0 at full resolution.
    halve, double: the level whose halving, or doubling, it is; {j} is 0 for that
      between full and half resolution.
    block, attend: in a level.
    middle: block, attention and block of the smallest level.
  """

  down: str = "encoder.down.{i}"
  up: str = "decoder.up.{i}"
  halve: str = "encoder.down.{j}"
  double: str = "decoder.up.{j+1}"
  block: str = "block.{b}"
  attend: str = "attn.{b}"
  middle: tuple[str, str, str] = ("block_1", "attn_1", "block_2")


OURS_ONLY = ("adversary/*", "balance/*", "codec/bottleneck/quantizer/uses")
LDM = Layout()


def residual(ours, *theirs):
  """A residual block."""
  keys = ()
  for number in (1, 2):
    keys += norm(f"{ours}/norm{number}", *(f"{n}.norm{number}" for n in theirs))
    keys += conv(f"{ours}/conv{number}", *(f"{n}.conv{number}" for n in theirs))
  return keys + conv(f"{ours}/skip", *(f"{n}.nin_shortcut" for n in theirs))


def attention(ours, *theirs):
  """Attention among all places."""
  keys = norm(f"{ours}/norm", *(f"{n}.norm" for n in theirs))
  for name, short in (
    ("query", "q"), ("key", "k"), ("value", "v"), ("out", "proj_out")
  ):  # fmt: skip
    keys += conv(f"{ours}/{name}", *(f"{n}.{short}" for n in theirs))
  return keys


def keys(*layouts: Layout):
  """Keys of both halves, in each of some layouts."""
  found = ()
  for half, level, place in (("encoder", "down", "down"), ("decoder", "up", "up")):
    mids = [[f"{half}.mid.{part}" for part in x.middle] for x in layouts]
    first, attend, second = zip(*mids, strict=True)
    levels = [(getattr(x, level), x) for x in layouts]
    found += (
      *conv(f"{half}/enter", f"{half}.conv_in"),
      *residual(f"{half}/{place}{{i}}_{{b}}", *(f"{n}.{x.block}" for n, x in levels)),
      *attention(
        f"{half}/attend_{place}{{i}}_{{b}}", *(f"{n}.{x.attend}" for n, x in levels)
      ),
      *residual(f"{half}/middle/block1", *first),
      *attention(f"{half}/middle/attention", *attend),
      *residual(f"{half}/middle/block2", *second),
      *norm(f"{half}/norm", f"{half}.norm_out"),
    )
  return (
    *found,
    *conv("encoder/halve{j}", *(f"{x.halve}.downsample.conv" for x in layouts)),
    *conv("decoder/double_{j}", *(f"{x.double}.upsample.conv" for x in layouts)),
    *conv("encoder/leave", "encoder.conv_out"),
    *conv("decoder/last", "decoder.conv_out"),
  )


def config(image_size: int, **codec):
  """A config that trains on with what a release has; pictures of this size."""
  c = common.codec_config()
  c.codec.update(shift=0.0, scale=1.0, adversary_weight=0.0, groups=32, attention=True)
  c.codec.update(codec)
  c.data.image_size = c.data.sources.scenes.options.image_size = image_size
  return c


def published(config) -> dict:
  """Fields that transformers has for the tokenizer of any system."""
  codec = config.codec
  return {
    "base_channels": codec.width,
    "channel_multiplier": list(codec.multipliers),
    "double_latent": False,
    "embed_dim": codec.channels,
    "in_channels": 3,
    "latent_channels": codec.project_width or codec.channels,
    "num_embeddings": codec.codebook,
    "num_res_blocks": codec.blocks[0],
  }


def multipliers(name: str, widths) -> tuple[int, ...]:
  """Widths of levels as multiples of the first.

  Raises:
    ConfigError: they are not.
  """
  if any(w % widths[0] for w in widths):
    raise ConfigError(f"{name}: {widths} must be whole multiples of the first")
  return tuple(w // widths[0] for w in widths)


class Told:
  """Fields of the tokenizer, which in a whole model's config.json are in vq_config."""

  def __init__(self, published):
    self.published = published

  def only(self, name, *values):
    """Refuses a field that has none of these values, as `Fields.only` does."""
    self.published.only(name, *values)
    self.published.only(f"vq_config.{name}", *values)

  def get(self, name, default):
    """A field, or what the library takes where it is not written."""
    inside = f"vq_config.{name}"
    if name in self.published and inside in self.published:
      self.published.only(inside, self.published[name])
    return self.published.get(name, self.published.get(inside, default))

  def levels(self, base=128, multipliers=(1, 1, 2, 2, 4)):
    """(widths, blocks): of config.json, and then also those of the files.

    The arguments are what the library takes where it is not written.
    """
    base = self.get("base_channels", base)
    multipliers = self.get("channel_multiplier", multipliers)
    widths = tuple(base * m for m in multipliers)
    blocks = self.get("num_res_blocks", 2)
    known = any(n.endswith("base_channels") for n in self.published)
    if not known and "widths" in self.published:
      return self.published["widths"], (self.published["blocks"][0],)
    self.published.only("widths", widths)
    self.published.only("blocks", (blocks,) * len(widths))
    return widths, (blocks,)
