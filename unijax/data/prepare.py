"""Writing any source's documents as ArrayRecord shards, once, for all later runs.

Work goes on in `<out>.partial`, which is renamed to `<out>` when it is whole: a folder
with the final name is always complete. An interrupted run continues after its last
whole shard, and ends with the same bytes as an uninterrupted one.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Callable

import numpy as np

from unijax import codecs, disk
from unijax.data import latents, record_bytes, records
from unijax.data.document import DataError, Document, Image, Text

_STATE = ".state"  # folder: which source this is, and a file for each finished shard


@dataclasses.dataclass
class _Shard:
  """What is known of a finished shard: all that info.json and lengths.npz need.

  The last one of a source that ends in bad documents has no documents and no file.
  """

  file: str
  documents: int
  bytes: int
  sha256: str  # of the records, in order
  next: int  # number of the first document after it in the source
  text_bytes: list[int]
  images: list[list[list[int]]]  # of each document: [[height, width], ...]
  groups: list[int]
  skipped: dict[str, list[str]]


def prepare(
  source,
  out: str,
  *,
  on_error: str = "fail",
  shard_documents: int = 4096,
  codec: str = "",
  described: dict | None = None,
  attribution: str = "",
  progress: Callable[[int, int], None] | None = None,
) -> dict:
  """Writes all documents of a source; returns the info that stands in info.json.

  Args:
    source: any source.
    out: folder to make; must not exist.
    on_error: fail, or skip: leave out documents that cannot be read, and count them.
    shard_documents: documents of a shard; also what an interruption can lose.
    codec: name of a codec whose latents and codes of each picture are kept beside it.
    described: options of the source, kept in info.json for the reader.
    attribution: line of credit that the data's licence asks for.
    progress: called with (documents done, documents of the source).

  Raises:
    DataError: `out` exists, a partial folder of other content is in the way, no
      document is left, or a bad document and on_error is 'fail'.
  """
  if on_error not in ("fail", "skip"):
    raise DataError(f"prepare: on_error must be 'fail' or 'skip', got {on_error!r}")
  if shard_documents < 1:
    raise DataError(f"prepare: shard_documents must be positive, got {shard_documents}")
  final = pathlib.Path(out)
  if final.exists():
    raise DataError(f"prepare: {out} exists; remove it or choose another folder")
  partial = final.with_name(final.name + ".partial")
  identity = [source.signature, shard_documents, record_bytes.VERSION]
  if codec:
    identity.append(codecs.identity(codec))
    described = {**(described or {}), "codec": codecs.identity(codec)}
  shards = _resume(partial, identity, on_error)
  while (start := shards[-1].next if shards else 0) < len(source):
    first = sum(shard.documents for shard in shards)
    shard = _write_shard(
      source, start, first, partial, len(shards), shard_documents, on_error, progress,
      codec,
    )  # fmt: skip
    _write_json(partial / _STATE / f"{len(shards):05}.json", dataclasses.asdict(shard))
    shards.append(shard)
  if not any(shard.documents for shard in shards):
    raise DataError(f"prepare: not one of {len(source)} documents could be read")
  info = _info(source, shards, described or {}, attribution)
  _write_lengths(partial / "lengths.npz", shards)
  lengths = (partial / "lengths.npz").read_bytes()
  info["lengths_sha256"] = hashlib.sha256(lengths).hexdigest()
  info["digest"] = records.info_digest(info)
  _write_json(partial / "info.json", info)
  os.replace(partial, final)
  disk.sync(final.parent)
  shutil.rmtree(final / _STATE)
  return info


def show_progress(done: int, total: int) -> None:
  """Prints one line of progress on stderr, rewritten in place on a terminal."""
  end = "\r" if sys.stderr.isatty() and done < total else "\n"
  print(f"prepared {done} of {total} documents", file=sys.stderr, end=end, flush=True)


def _resume(partial: pathlib.Path, identity: list, on_error: str) -> list[_Shard]:
  """Returns the shards that an interrupted run has finished.

  Whatever stopped before its first one is begun anew, perhaps of a source that was
  mended meanwhile.
  """
  state = partial / _STATE
  if not partial.exists():
    return _begin(state, identity)
  try:
    found = json.loads((state / "identity.json").read_text())
    done = sorted(state.glob("[0-9]*.json"))
    shards = [_Shard(**json.loads(path.read_text())) for path in done]
  except (OSError, ValueError, TypeError):
    found, shards = None, None
  if found is not None and not shards:
    return _begin(state, identity)
  if found != identity:
    raise DataError(
      f"prepare: {partial} was left by a run with another source or other options; "
      "remove it to start anew"
    )
  if on_error == "fail" and any(shard.skipped for shard in shards):
    raise DataError(
      f"prepare: documents were left out of {partial} already: go on with "
      "on_error='skip', or remove it to start anew"
    )
  return shards


def _begin(state: pathlib.Path, identity: list) -> list[_Shard]:
  state.mkdir(parents=True, exist_ok=True)
  _write_json(state / "identity.json", identity)
  return []


def _write_shard(
  source, start, first, folder, number, count, on_error, progress, codec
) -> _Shard:
  """Writes the next `count` readable documents from `start` on; `first` are written."""
  from array_record.python import array_record_module

  path = folder / records.shard_name(number)
  writer = array_record_module.ArrayRecordWriter(str(path), records.OPTIONS)
  shard = _Shard(path.name, 0, 0, "", start, [], [], [], {})
  digest = hashlib.sha256()
  try:
    while shard.next < len(source) and shard.documents < count:
      index, shard.next = shard.next, shard.next + 1
      try:
        document = record_bytes.with_pixels(source[index])
        if codec:
          document = latents.with_encoded(document, codec)
        record = record_bytes.pack(document, first + shard.documents, source.signature)
      except DataError as error:
        if on_error == "fail":
          raise
        reason = getattr(error, "reason", "unreadable document")
        shard.skipped.setdefault(reason, []).append(f"document {index}: {error}")
        continue
      writer.write(record)
      digest.update(len(record).to_bytes(8, "little") + record)
      shard.documents += 1
      shard.text_bytes.append(_text_bytes(document))
      shard.images.append(_image_sizes(document))
      shard.groups.append(record_bytes.group(document))
      if progress and (shard.next % 256 == 0 or shard.next == len(source)):
        progress(shard.next, len(source))
  finally:
    writer.close()
  if not shard.documents:
    path.unlink()
    return shard
  disk.sync(path)
  shard.bytes, shard.sha256 = path.stat().st_size, digest.hexdigest()
  return shard


def _text_bytes(document: Document) -> int:
  return sum(len(p.text.encode()) for p in document.parts if isinstance(p, Text))


def _image_sizes(document: Document) -> list[list[int]]:
  return [[p.height, p.width] for p in document.parts if isinstance(p, Image)]


def _info(source, shards: list[_Shard], described: dict, attribution: str) -> dict:
  """Returns what info.json holds; equal sources give equal infos."""
  skipped: dict[str, list[str]] = {}
  for shard in shards:
    for reason, names in shard.skipped.items():
      skipped.setdefault(reason, []).extend(names)
  for reason, names in getattr(source, "skipped", {}).items():
    skipped.setdefault(reason, []).extend(names)
  sizes = {tuple(size) for s in shards for document in s.images for size in document}
  content = hashlib.sha256("".join(s.sha256 for s in shards).encode()).hexdigest()
  return {
    "version": record_bytes.VERSION,
    "content": content,  # hash of all records in order
    "source": {"name": source.name, "signature": source.signature, **described},
    "attribution": attribution,
    "documents": sum(s.documents for s in shards),
    "images": sum(len(document) for s in shards for document in s.images),
    "image_sizes": [list(size) for size in sorted(sizes)],
    "text_bytes": sum(sum(s.text_bytes) for s in shards),
    "skipped": {
      reason: {"count": len(names), "first": names[:20]}
      for reason, names in skipped.items()
    },
    "shards": [
      {k: getattr(s, k) for k in ("file", "documents", "bytes", "sha256")}
      for s in shards
      if s.documents
    ],
  }


def _write_lengths(path: pathlib.Path, shards: list[_Shard]) -> None:
  documents = [document for s in shards for document in s.images]
  np.savez(
    path,
    text_bytes=np.array([n for s in shards for n in s.text_bytes], np.int32),
    images=np.array([len(sizes) for sizes in documents], np.int32),
    group=np.array([n for s in shards for n in s.groups], np.uint64),
    sizes=np.array([z for sizes in documents for z in sizes], np.int32).reshape(-1, 2),
  )
  disk.sync(path)


def _write_json(path: pathlib.Path, value: object) -> None:
  text = json.dumps(value, indent=1, ensure_ascii=True)
  disk.write_whole(path, text, lasting=True)
