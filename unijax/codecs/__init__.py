"""What turns media into latents or codes and back. Patches are cut from latents.

A codec is built in, or trained: then its name is the path of the run that trained it,
and what is read is the frozen artefact in there (`unijax.codecs.frozen`). "codes:N:S"
is one of N codes and S pixels a code that is yet to be named, "latents:N:S" one of N
numbers a latent: its sizes are known.

A codec has `stride` (pixels a latent), `channels` (numbers a latent) and `codebook`
(number of codes; 0: continuous only), `encode` and `decode` between pixels and latents
and, with a codebook, `codes` and `from_codes` between pixels and codes; `draws` is
False where it has an encoder alone.
"""

import functools
import pathlib
import re
from typing import NamedTuple

from unijax.codecs import artefact
from unijax.codecs.blocks import BlockCodec
from unijax.codecs.pixels import PixelCodec
from unijax.errors import ConfigError, nearest

BUILT_IN = {"pixels": PixelCodec, "blocks": BlockCodec}
# What there is, how many codes or numbers, pixels a code or latent.
SIZES_ALONE = re.compile(r"(codes|latents):([1-9]\d*):([1-9]\d*)")


class Sizes(NamedTuple):
  """What a config must know of a codec."""

  stride: int  # pixels a latent
  channels: int  # numbers a latent
  codebook: int  # codes; 0 where there are none
  draws: bool = True  # whether pictures can be made of them


@functools.cache
def open_codec(name: str):
  """Returns the codec that `data.codec` names; the same object for the same name.

  Raises:
    ConfigError: no codec of this name, with the nearest one; a path without a trained
      codec, or with a damaged one.
  """
  if _is_path(name):
    from unijax.codecs import frozen  # loads JAX

    return frozen.FrozenCodec(name)
  if name not in BUILT_IN:
    raise ConfigError(
      f"data.codec: {name!r} says how many there are and no more: name the run of a "
      "codec that has them"
    )
  return BUILT_IN[name]()


def sizes(name: str) -> Sizes:
  """Returns the sizes of a codec without loading its weights.

  Raises:
    ConfigError: as `open_codec`.
  """
  if _is_path(name):
    about = artefact.read(name)
    return Sizes(about.stride, about.channels, about.codebook, about.draws)
  if alone := SIZES_ALONE.fullmatch(name):
    count, stride = int(alone[2]), int(alone[3])
    codes = alone[1] == "codes"
    return Sizes(stride, 0 if codes else count, count if codes else 0)
  codec = open_codec(name)
  return Sizes(codec.stride, codec.channels, codec.codebook)


def only_size(name: str) -> int:
  """Returns the pixels a side of all pictures a codec can read; 0: any multiple.

  Raises:
    ConfigError: as `open_codec`.
  """
  return artefact.read(name).only_size if _is_path(name) else 0


def identity(name: str) -> dict:
  """Returns what tells a codec from every other: its name, or sizes, scale and digest.

  Raises:
    ConfigError: as `open_codec`.
  """
  return artefact.read(name).identity() if _is_path(name) else {"name": name}


def _is_path(name: str) -> bool:
  """Whether a name is a path; raises ConfigError if it is nothing known."""
  if name in BUILT_IN or SIZES_ALONE.fullmatch(name):
    return False
  if "/" in name or pathlib.Path(name).exists():
    return True
  hint = nearest(name, BUILT_IN) or f"; known: {', '.join(BUILT_IN)}, or a run's path"
  raise ConfigError(f"data.codec: unknown {name!r}{hint}")
