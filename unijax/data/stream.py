"""Documents by number, and packed rows by number: what batches are cut from."""

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence

import grain

from unijax.config import Config
from unijax.data import mixture
from unijax.data.document import DataError, Document
from unijax.data.layout import Layout
from unijax.data.plan import KEPT, Plan, Windows
from unijax.data.plan_cache import PlanCache
from unijax.data.rows import RowBuilder
from unijax.data.sources import Source
from unijax.types import Batch


class DocumentStream:
  """An endless, random-access mixture: number -> document, in the same order always.

  Args:
    sources: with their weights; those of weight 0 are left out.
    seed: of the order in each source.
    mix: which source each document comes from; None keeps the weights as they are.
  """

  def __init__(self, sources: list[tuple[Source, float]], seed: int, mix=None):
    used = [(s, w) for s, w in sources if w > 0 or mix is not None]
    self.sources = [s for s, _ in used]
    self.mixture = mix or mixture.Constant([w for _, w in used])
    self._shuffled = [
      grain.MapDataset.source(source).seed(seed + number).shuffle().repeat()
      for number, source in enumerate(self.sources)
    ]

  def __getitem__(self, number: int) -> tuple[Document, str]:
    """Returns the document at this place of the stream and its source's name."""
    source, place = self.mixture.locate(number)
    return self._shuffled[source][place], self.sources[source].name

  def name(self, number: int) -> str:
    """Returns the name of the source of a document, which is not read."""
    return self.sources[self.mixture.locate(number)[0]].name


class RowSource:
  """Packed rows by number: each is a Batch of unbatched arrays.

  Args:
    stream: of documents.
    builder: lays them out.
    config: of the run.
    cache: of planned windows; None keeps them in memory alone.
    breaks: rows that begin a window; see `Plan`.
  """

  def __init__(
    self,
    stream: DocumentStream,
    builder: RowBuilder,
    config: Config,
    cache: PlanCache | None = None,
    breaks: Sequence[int] = (),
  ):
    self.stream, self.builder, self.cache = stream, builder, cache
    self.lock = threading.RLock()  # planning is shared; building rows is parallel
    self._read: dict[int, Document] = {}  # measured by the plan, not yet in a row
    self._progress = _Progress()
    data = config.data
    self.plan = Plan(
      self._measure, data.window, data.seq_len, data.images_per_row, config.seed,
      begin=stream.mixture.begin, progress=self._progress.planned, breaks=breaks,
    )  # fmt: skip
    self._config, self._factors = config, loss_factors(config)
    known = cache.read() if cache else Windows()
    if known and self.plan.restore(known, str(cache.path)) < len(known):
      cache.forget()

  def __getitem__(self, row: int) -> Batch:
    with self.lock:
      self._progress.begin(self.plan.planned)
      numbers = self.plan.documents(row)
      read = [self._read.pop(n, None) for n in numbers]
      factors = self._loss_factors(row, numbers)
      self.save()
    layouts = [
      self.builder.layout(document or self.stream[n][0], key=n)
      for document, n in zip(read, numbers, strict=True)
    ]
    if factors:
      layouts = [_weighted(x, *f) for x, f in zip(layouts, factors, strict=True)]
    return self.builder.row(layouts)

  def _loss_factors(self, row: int, numbers: list[int]) -> list[tuple[float, float]]:
    """Those of each document of a row; none where all are 1."""
    if not self._factors:
      return []
    stage = self._config.stage_of(row // self._config.train.batch_size)
    names = [self.stream.name(n) for n in numbers]
    return [self._factors[stage][name] for name in names]

  def plan_to(self, row: int) -> Plan:
    """Returns the plan with the window of a row planned; waits only if it is not."""
    if row >= self.plan.planned:
      with self.lock:
        self._progress.begin(self.plan.planned)
        self.plan.reach(row)
    return self.plan

  def save(self, now: bool = False) -> None:
    """Keeps what is planned on disk, if there is a cache; `now`: however little."""
    with self.lock:
      if self.cache:
        self.cache.save(self.plan.windows, now)

  def _measure(self, number: int) -> tuple[int, int]:
    document, name = self.stream[number]
    length, images = self.builder.measure(document, key=number)
    if length > self.builder.seq_len:
      raise DataError(
        f"source {name!r}: document {document.id} ({document.kind}) needs "
        f"{length} positions, more than data.seq_len={self.builder.seq_len}: "
        "raise data.seq_len or shorten the documents of this source"
      )
    if images > self.builder.images_per_row:
      raise DataError(
        f"source {name!r}: document {document.id} has {images} images, "
        f"more than data.images_per_row={self.builder.images_per_row}: raise it"
      )
    if number % self.plan.window == 0:  # rows of other processes are never asked for
      far = KEPT * self.plan.window
      self._read = {n: d for n, d in self._read.items() if abs(n - number) < far}
    self._read[number] = document
    return length, images


def loss_factors(config: Config) -> list[dict[str, tuple[float, float]]]:
  """Returns source -> factors of its documents' (text, image) weights, for each stage.

  An empty list where all of them are 1.
  """
  found = [
    {s.name: (s.text_loss, s.image_loss) for s in config.at(i).data.sources}
    for i in range(len(config.starts))
  ]
  ones = all(pair == (1.0, 1.0) for stage in found for pair in stage.values())
  return [] if ones else found


def _weighted(layout: Layout, text: float, image: float) -> Layout:
  """Returns the layout with its loss weights times these factors."""
  return dataclasses.replace(
    layout,
    text_weight=[text * w for w in layout.text_weight],
    image_weight=[image * w for w in layout.image_weight],
  )


class _Progress:
  """Says how far planning is when a row far ahead takes a while."""

  def __init__(self):
    self._said = self._began = self._first = 0

  def begin(self, first: int) -> None:
    """Planning may start now, at this row."""
    self._said = self._began = time.monotonic()
    self._first = first

  def planned(self, count: int, row: int) -> None:
    """Prints a line every few seconds."""
    now = time.monotonic()
    if count <= row and now - self._said > 3.0:
      self._said = now
      left = (now - self._began) / max(1, count - self._first) * (row - count)
      print(
        f"planned {count:,} of {row:,} rows, {left:.0f} s left",
        file=sys.stderr, flush=True,
      )  # fmt: skip
