"""Batches: batch t is a pure function of the config and t.

grain mixes and shuffles the sources with random access, the plan packs documents
into rows, and grain's threads build rows ahead of the training step. There is no
iterator state: resuming at step t means starting to read at batch t.
"""

import threading
from collections.abc import Iterator

import grain

from unijax.config import Config
from unijax.data import rows
from unijax.data.document import DataError, Document
from unijax.data.plan import Plan
from unijax.data.rows import Layout, RowBuilder
from unijax.data.sources import Source, make_sources
from unijax.data.tokenizer import make_tokenizer
from unijax.types import Batch

ENDLESS = 2**40  # rows of a stream; grain wants a length, training sets the end


class DocumentStream:
  """An endless, random-access mixture: number -> document, in the same order always."""

  def __init__(self, sources: list[tuple[Source, float]], seed: int):
    used = [(s, w) for s, w in sources if w > 0]
    self.sources = [s for s, _ in used]
    parts = [
      grain.MapDataset.source(_Numbered(s, number))
      .seed(seed + number)
      .shuffle()
      .repeat()
      for number, s in enumerate(self.sources)
    ]
    total = sum(w for _, w in used)
    self.mixed = grain.MapDataset.mix(parts, weights=[w / total for _, w in used])

  def __getitem__(self, number: int) -> tuple[Document, str]:
    """Returns the document at this place of the stream and its source's name."""
    source, document = self.mixed[number]
    return document, self.sources[source].name


class _Numbered:
  """A source whose documents carry the number of the source."""

  def __init__(self, source: Source, number: int):
    self.source, self.number = source, number

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    return self.number, self.source[int(index)]


class RowSource:
  """Packed rows by number, for grain: each is a Batch of unbatched arrays."""

  def __init__(self, stream: DocumentStream, builder: RowBuilder, config: Config):
    self.stream, self.builder = stream, builder
    self._lock = threading.Lock()  # planning is shared; building rows is parallel
    self._measured: dict[int, Layout] = {}  # laid out by the plan, not yet in a row
    data = config.data
    self.plan = Plan(
      self._measure, data.window, data.seq_len, data.images_per_row, config.seed
    )

  def __len__(self):
    return ENDLESS

  def __getitem__(self, row: int) -> Batch:
    with self._lock:
      numbers = self.plan.documents(int(row))
      measured = [self._measured.pop(n, None) for n in numbers]
    return self.builder.row(
      [x or self.layout(n) for x, n in zip(measured, numbers, strict=True)]
    )

  def layout(self, number: int) -> Layout:
    """Lays out one document of the stream."""
    document, _ = self.stream[number]
    return self.builder.layout(document, key=number)

  def _measure(self, number: int) -> tuple[int, int]:
    document, name = self.stream[number]
    layout = self.builder.layout(document, key=number)
    if len(layout) > self.builder.seq_len:
      raise DataError(
        f"source {name!r}: document {document.id} ({document.kind}) needs "
        f"{len(layout)} positions, more than data.seq_len={self.builder.seq_len}: "
        "raise data.seq_len or shorten the documents of this source"
      )
    if len(layout.images) > self.builder.images_per_row:
      raise DataError(
        f"source {name!r}: document {document.id} has {len(layout.images)} images, "
        f"more than data.images_per_row={self.builder.images_per_row}: raise it"
      )
    if len(self._measured) > 4 * self.plan.window:  # rows were read out of order
      self._measured.clear()
    self._measured[number] = layout
    return len(layout), len(layout.images)


class Loader:
  """Batches from any step on.

  Args:
    config: of the run.
    held_out: read what training never sees, for held-out losses.

  Attributes:
    builder: lays out documents (also those of prompts).
    rows: packed rows by number.
  """

  def __init__(self, config: Config, *, held_out: bool = False):
    self.config = config
    self.builder = RowBuilder(config, make_tokenizer(config.data.tokenizer))
    sources = make_sources(config, held_out=held_out)
    self.stream = DocumentStream(sources, config.seed)
    self.rows = RowSource(self.stream, self.builder, config)

  def batch(self, step: int) -> Batch:
    """Returns batch `step`, built in this thread."""
    size = self.config.train.batch_size
    return rows.stack([self.rows[step * size + i] for i in range(size)])

  def iterate(self, step: int) -> Iterator[Batch]:
    """Yields batches from `step` on, read ahead by threads. Close it when done."""
    size = self.config.train.batch_size
    dataset = grain.MapDataset.source(self.rows)[step * size :]
    dataset = dataset.batch(size, batch_fn=rows.stack)
    threads = self.config.data.threads
    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(4, 2 * threads)
    )
    return iter(dataset.to_iter_dataset(options))
