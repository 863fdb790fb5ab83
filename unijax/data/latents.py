"""What a codec made of a picture, kept beside it: made once, read by every run.

`unijax data prepare --codec=RUN` writes it into the records. A picture without it is
encoded when it is asked for; both give the same numbers, bit for bit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from unijax import codecs
from unijax.data.document import DataError, Document, Encoded, Image


def encode(image: Image, name: str) -> Encoded:
  """Returns what the codec called `name` makes of a picture."""
  codec, pixels = codecs.open_codec(name), image.pixels()
  codes = codec.codes(pixels) if codec.codebook else None
  return Encoded(codecs.identity(name), codec.encode(pixels), codes)


def with_encoded(document: Document, name: str) -> Document:
  """Returns the document with every picture encoded."""
  parts = tuple(
    dataclasses.replace(part, encoded=encode(part, name))
    if isinstance(part, Image)
    else part
    for part in document.parts
  )
  return dataclasses.replace(document, parts=parts)


def latents(image: Image, codec, identity: Mapping[str, Any]) -> np.ndarray:
  """Returns float32 [h/stride, w/stride, channels]: kept ones, or made now.

  Args:
    image: a picture.
    codec: of the config.
    identity: `codecs.identity` of it.

  Raises:
    DataError: the picture keeps what another codec made of it.
  """
  if image.encoded is None:
    return codec.encode(image.pixels())
  _check(image, identity)
  return image.encoded.latents


def codes(image: Image, codec, identity: Mapping[str, Any]) -> np.ndarray:
  """Returns int32 [h/stride, w/stride], as `latents` does."""
  if image.encoded is None:
    return codec.codes(image.pixels())
  _check(image, identity)
  return image.encoded.codes


def to_plain(encoded: Encoded) -> dict:
  """Returns plain values for a record."""
  codes = encoded.codes
  return {
    "codec": dict(encoded.codec),
    "shape": list(encoded.latents.shape),
    "latents": np.ascontiguousarray(encoded.latents, "<f4").tobytes(),
    "codes": None if codes is None else np.ascontiguousarray(codes, "<i4").tobytes(),
  }


def from_plain(plain: dict) -> Encoded:
  """Undoes `to_plain`."""
  shape, codes = plain["shape"], plain["codes"]
  if codes is not None:
    codes = np.frombuffer(codes, "<i4").reshape(shape[:-1])
  latents = np.frombuffer(plain["latents"], "<f4").reshape(shape)
  return Encoded(plain["codec"], latents, codes)


def _check(image: Image, identity: Mapping[str, Any]) -> None:
  kept = image.encoded.codec
  if kept == identity:
    return
  names = sorted({*kept, *identity})
  differ = [
    f"{name} {kept.get(name)!r}, not {identity.get(name)!r}"
    for name in names
    if kept.get(name) != identity.get(name)
  ]
  raise DataError(
    f"{image.name}: its latents were made by another codec than data.codec: "
    f"{'; '.join(differ)}. Prepare the data again with --codec, or name that codec"
  )
