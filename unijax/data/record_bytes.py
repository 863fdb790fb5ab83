"""The bytes of one prepared document: a msgpack record that ends in a digest.

What the digest covers is told in `records`.
"""

import dataclasses
import functools
import hashlib

import msgpack

from unijax.data import images, latents
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.images import BadItem

VERSION = 2
DIGEST = 16  # bytes of it at the end of a record


def with_pixels(document: Document) -> Document:
  """Returns the document with its pictures read and kept, so that they load once.

  Raises DataError, as `Image.pixels` does, if a picture cannot be read.
  """

  def read(part):
    if not isinstance(part, Image):
      return part
    pixels = part.pixels()
    return dataclasses.replace(part, load=lambda: pixels)

  return dataclasses.replace(document, parts=tuple(map(read, document.parts)))


def pack(document: Document, number: int = 0, origin: str = "") -> bytes:
  """Returns a document as the bytes of a record.

  Args:
    document: what to keep.
    number: its place among the documents of the folder.
    origin: signature of the source it was made from.
  """
  parts = []
  for part in document.parts:
    if isinstance(part, Text):
      parts.append({"text": part.text, "loss": part.loss})
    elif isinstance(part, Turn):
      parts.append({"turn": part.role})
    else:
      picture = {
        "png": images.encode_png(part.pixels()),
        "size": [part.height, part.width],
        "context": part.context,
        "name": part.name,
      }
      if part.encoded is not None:
        picture["encoded"] = latents.to_plain(part.encoded)
      parts.append(picture)
  content = msgpack.packb({"v": VERSION, "kind": document.kind, "parts": parts})
  return content + _digest(content, number, origin)


def _digest(content: bytes, number: int, origin: str) -> bytes:
  digest = hashlib.blake2b(f"{origin}\0{number}\0".encode(), digest_size=DIGEST)
  digest.update(content)
  return digest.digest()


def group(document: Document) -> int:
  """Returns 64 bits that are equal for documents with the same first picture."""
  digest = hashlib.blake2b(digest_size=8)
  pictures = [part for part in document.parts if isinstance(part, Image)]
  texts = [part.text for part in document.parts if isinstance(part, Text)]
  digest.update(
    pictures[0].pixels().tobytes() if pictures else "\n".join(texts).encode()
  )
  return int.from_bytes(digest.digest(), "little")


def unpack(
  record: bytes, id: int, name: str, number: int = 0, origin: str = ""
) -> Document:
  """Returns the document of a record; its pictures are decoded when asked for.

  Args:
    record: bytes that `pack` made, with the same `number` and `origin`.
    id: of the document in its source.
    name: of the record, for messages.
    number, origin: as in `pack`.

  Raises:
    DataError: the bytes have changed, or are no record of this version.
  """
  content, digest = record[:-DIGEST], record[-DIGEST:]
  if digest != _digest(content, number, origin):
    raise BadItem(
      name,
      "changed record",
      "its bytes do not match their digest",
      "the file is damaged: prepare the data again",
    )
  try:
    content = msgpack.unpackb(content)
    if content["v"] != VERSION:
      raise ValueError(f"version {content['v']}, this program reads {VERSION}")
    parts = tuple(_part(part, name) for part in content["parts"])
    return Document(parts, id=id, kind=content["kind"])
  except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
    raise DataError(
      f"{name}: no document of this program ({type(error).__name__}: {error}); "
      "prepare the data again"
    ) from error


def _part(part: dict, name: str) -> Text | Image | Turn:
  if "turn" in part:
    return Turn(part["turn"])
  if "text" in part:
    return Text(part["text"], loss=part["loss"])
  name = f"{name} ({part['name']})"
  load = functools.partial(images.decode_png, part["png"], name)
  encoded = latents.from_plain(part["encoded"]) if "encoded" in part else None
  return Image(load, *part["size"], context=part["context"], name=name, encoded=encoded)
