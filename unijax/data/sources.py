"""The kinds of source a config may name, and how to build them.

A source is random access: `source[i]` is a Document, always the same one. To add a
kind, write a class with `name`, `__len__`, `__getitem__` and `signature`, an options
dataclass, and a line in `KINDS`.
"""

import dataclasses
import importlib
from typing import Any, Protocol

from unijax.config import Config, ConfigError, SourceConfig
from unijax.data.document import Document
from unijax.errors import nearest


class Source(Protocol):
  """Documents by number."""

  name: str
  signature: str  # a short hash of everything that decides the content

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Document: ...


@dataclasses.dataclass(frozen=True)
class Kind:
  """Where a kind of source lives, and what sets its held-out part apart."""

  module: str
  source: str
  options: str
  held_out: dict[str, Any] = dataclasses.field(default_factory=dict)


KINDS = {
  "scenes": Kind("unijax.data.scenes", "SceneSource", "SceneOptions", {"split": "iid"}),
  "emoji": Kind(
    "unijax.data.emoji", "EmojiSource", "EmojiOptions", {"split": "held_out"}
  ),
  "corpus": Kind(
    "unijax.data.corpus", "CorpusSource", "CorpusOptions", {"split": "held_out"}
  ),
  "folder": Kind(
    "unijax.data.files", "FolderSource", "FolderOptions", {"split": "held_out"}
  ),
  "parquet": Kind(
    "unijax.data.parquet", "ParquetSource", "ParquetOptions", {"split": "held_out"}
  ),
  "webdataset": Kind(
    "unijax.data.webdataset",
    "WebdatasetSource",
    "WebdatasetOptions",
    {"split": "held_out"},
  ),
  "tfds": Kind(
    "unijax.data.tfds_source", "TfdsSource", "TfdsOptions", {"split": "held_out"}
  ),
  "records": Kind(
    "unijax.data.records", "RecordsSource", "RecordsOptions", {"split": "held_out"}
  ),
}


def make_source(
  entry: SourceConfig, image_size: int, *, held_out: bool = False, **changes
) -> Source:
  """Builds one source of a config.

  Args:
    entry: kind and options; `image_size` is filled in from the data section.
    image_size: pixels a side, for kinds that have images.
    held_out: take the part of the data that training never sees.
    **changes: options that replace those of the entry.

  Raises:
    ConfigError: unknown kind or option (with the nearest known name).
    DataError: what the source itself finds wrong with its options.
  """
  module, kind, options_class = _kind(entry)
  known = option_names(entry)
  options = {**entry.options, **(kind.held_out if held_out else {}), **changes}
  if "image_size" in known:
    options = {"image_size": image_size, **options}
  unknown = sorted(set(options) - known)
  if unknown:
    raise ConfigError(
      "\n  ".join(
        f"data.sources.{entry.name}.options.{name}: unknown{nearest(name, known)}"
        for name in unknown
      )
    )
  return getattr(module, kind.source)(options_class(**options), name=entry.name)


def make_sources(config: Config, *, held_out=False) -> list[tuple[Source, float]]:
  """Builds all sources of a config with their mixture weights."""
  size = config.data.image_size
  return [
    (
      make_source(entry, size, held_out=held_out, **prepared(config, entry)),
      entry.weight,
    )
    for entry in config.data.sources
  ]


def prepared(config: Config, entry: SourceConfig) -> dict[str, Any]:
  """Options that the data section fills in for sources of pictures of any shape."""
  data, known = config.data, option_names(entry) - set(entry.options)
  options = {"fit": data.fit, "resample": data.resample, "resize": data.resize}
  if config.native:
    least, most = data.native_pixels
    options |= {"step": config.unit_pixels, "least": least, "most": most}
    if entry.kind == "records":  # of pictures as they were prepared
      options["image_size"] = None
  return {name: x for name, x in options.items() if name in known}


def option_names(entry: SourceConfig) -> set[str]:
  """Names of the options that the kind of a source has."""
  return {f.name for f in dataclasses.fields(_kind(entry)[2])}


def has_turns(config: Config) -> bool:
  """Whether the documents of a config speak in turns, so that prompts must too.

  Kinds without the option (text alone, own records) are not asked.
  """
  said = []
  for entry in config.data.sources:
    for field in dataclasses.fields(_kind(entry)[2]):
      if field.name == "chat":
        said.append(entry.options.get("chat", field.default))
  return any(said) or not said


def _kind(entry: SourceConfig):
  if entry.kind not in KINDS:
    raise ConfigError(
      f"data.sources.{entry.name}.kind: unknown {entry.kind!r}"
      f"{nearest(entry.kind, KINDS)}; known: {', '.join(KINDS)}"
    )
  kind = KINDS[entry.kind]
  module = importlib.import_module(kind.module)
  return module, kind, getattr(module, kind.options)
