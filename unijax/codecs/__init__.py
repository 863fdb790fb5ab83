"""What turns media into latents or codes and back. Patches are cut from latents.

A codec has `stride` (pixels a latent), `channels` (numbers a latent) and `codebook`
(number of codes; 0: continuous only), `encode` and `decode` between pixels and latents
and, with a codebook, `codes` and `from_codes` between pixels and codes.
"""

import functools
from typing import NamedTuple

from unijax.codecs.blocks import BlockCodec
from unijax.codecs.pixels import PixelCodec
from unijax.errors import ConfigError, nearest

BUILT_IN = {"pixels": PixelCodec, "blocks": BlockCodec}


class Sizes(NamedTuple):
  """What a config must know of a codec."""

  stride: int  # pixels a latent
  channels: int  # numbers a latent
  codebook: int  # codes; 0 where there are none


@functools.cache
def open_codec(name: str):
  """Returns the codec that `data.codec` names; the same object for the same name.

  Raises:
    ConfigError: no codec of this name, with the nearest one.
  """
  if name not in BUILT_IN:
    hint = nearest(name, BUILT_IN) or f"; known: {', '.join(BUILT_IN)}"
    raise ConfigError(f"data.codec: unknown {name!r}{hint}")
  return BUILT_IN[name]()


def sizes(name: str) -> Sizes:
  """Returns the sizes of a codec without loading its weights.

  Raises:
    ConfigError: as `open_codec`.
  """
  codec = open_codec(name)
  return Sizes(codec.stride, codec.channels, codec.codebook)
