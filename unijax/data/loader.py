"""Batches: batch t is a function of the config and t.

Sources are shuffled with random access and mixed, the plan packs documents into rows,
and threads build rows ahead of the training step. There is no iterator state: resuming
at step t means starting to read at batch t, and any part of a batch is built without
the rest, so each process of a run reads only its own rows.
"""

import dataclasses
import os
from collections.abc import Mapping

from unijax.config import Config, ConfigError, SourceConfig
from unijax.data import ahead, hashing, mixture, rows
from unijax.data.ahead import Ahead
from unijax.data.document import DataError
from unijax.data.mixture_history import History, Segment, reweigh
from unijax.data.plan import VERSION
from unijax.data.plan_cache import PlanCache
from unijax.data.rows import RowBuilder
from unijax.data.sources import Source, make_sources
from unijax.data.stream import DocumentStream, RowSource, loss_factors
from unijax.data.tokenizer import make_tokenizer
from unijax.types import Batch


def part_of_batch(size: int, part: tuple[int, int] | range | None) -> range:
  """Returns which of the `size` rows of a batch a part is; see `Loader.iterate`."""
  if part is None:
    return range(size)
  if isinstance(part, range):
    if not part or min(part) < 0 or max(part) >= size:
      raise ConfigError(f"train.batch_size: {size} rows have no part {part}")
    return part
  index, count = part
  if count < 1 or size % count or not 0 <= index < count:
    raise ConfigError(
      f"train.batch_size: {size} rows cannot be read as part {index} of {count} "
      "processes: make it a multiple of their number"
    )
  return range(index * size // count, (index + 1) * size // count)


class Loader:
  """Batches from any step on.

  Args:
    config: of the run.
    held_out: read what training never sees, for held-out losses; the weights of the
      sources stay as at step 0, those of the config without its stages.
    folder: keeps the rows of planned windows, and weights that follow the losses;
      beside the checkpoints, so that both go where they go. None keeps nothing.

  Attributes:
    builder: lays out documents (also those of prompts).
    rows: packed rows by number.
    entries: the sources that are read, as the config has them.
    plan_hash: decides, with the recorded weights if any, all rows and their order.

  Raises:
    DataError: of a source, or a damaged record of weights.
  """

  def __init__(
    self,
    config: Config,
    *,
    held_out: bool = False,
    folder: str | os.PathLike | None = None,
  ):
    if held_out:  # the same measure in every stage
      config = dataclasses.replace(config, stages=())
    self.config = config
    self.builder = RowBuilder(config, make_tokenizer(config.data.tokenizer))
    sources = make_sources(config, held_out=held_out)
    entries, kind, breaks = mixture.over_stages(config)
    kind = "constant" if held_out else kind
    used = [i for i, e in enumerate(entries) if e.weight > 0 or e.schedule]
    if kind in ("constant", "loss"):
      used = [i for i in used if entries[i].weight > 0]
    self.entries = [entries[i] for i in used]
    sources = [(sources[i][0], entries[i].weight) for i in used]
    self.plan_hash = self._hash([s for s, _ in sources], kind, breaks)
    self.history = None
    if kind == "loss":
      self._check_delay()
      first = [e.weight for e in self.entries]
      self.history = History(first, self.plan_hash, folder)
    stream = DocumentStream(sources, config.seed, self._mixture(kind))
    cache = None if folder is None else PlanCache(folder, self.plan_hash)
    self.stream = stream
    self.rows = RowSource(stream, self.builder, config, cache, breaks)

  @property
  def vocab(self) -> int:
    """Ids that a token table must hold."""
    return self.builder.vocabulary.size

  def batch(self, step: int, part: tuple[int, int] | range | None = None) -> Batch:
    """Returns batch `step`, or a part of it as in `iterate`, built in this thread."""
    first = step * self.config.train.batch_size
    return rows.stack([self.rows[first + i] for i in self.part(part)])

  def iterate(self, step: int, part: tuple[int, int] | range | None = None) -> Ahead:
    """Yields batches from `step` on, read ahead by threads. Close it when done.

    Args:
      step: of the first batch.
      part: rows of every batch to build: process (index, count) of equal parts in
        order, or a range of rows of the batch; None is all of them. Together, parts
        are the whole batch, bit for bit.

    Raises:
      ConfigError: parts that do not divide the batch, or a range outside of it.
    """
    part = self.part(part)
    return Ahead(
      lambda number: self.batch(number, part), step, self.config.data.threads,
      on_close=lambda: self.rows.save(now=True),
    )  # fmt: skip

  def part(self, part: tuple[int, int] | range | None) -> range:
    """Returns which rows of a batch a part is; see `iterate`."""
    return part_of_batch(self.config.train.batch_size, part)

  def padding(self, step: int) -> float:
    """Returns the share of empty positions in the rows planned for steps up to `step`.

    Whole windows count; the same number whatever was read ahead.
    """
    row = (step + 1) * self.config.train.batch_size - 1
    return self.rows.plan_to(row).padding_until(row)

  def reweigh(self, step: int, losses: Mapping[str, float]) -> Segment:
    """Lets held-out losses choose the weights from `data.mixture_every` steps on.

    What is recorded for this step stays: a resumed run changes nothing.

    Args:
      step: at which the losses were measured.
      losses: by name of the source.

    Returns:
      The weights in force from then on, in the order of `entries`.

    Raises:
      DataError: rows that the weights would change are planned, or a later step has
        chosen weights already.
    """
    data, history = self.config.data, self.history
    first_row = (step + data.mixture_every) * self.config.train.batch_size
    with self.rows.lock:
      if (segment := history.at(step)) is not None:
        return segment
      old = history.weights(first_row)
      if self.rows.plan.last_start >= first_row or history.last > step:
        raise DataError(
          f"mixture: row {first_row} was planned before step {step} chose its weights; "
          "raise data.mixture_every"
        )
      measured = [float(losses[e.name]) for e in self.entries]
      references = [e.reference for e in self.entries]
      new = reweigh(old, measured, references, data.mixture_rate, data.mixture_floor)
      segment = Segment(step, first_row, new, tuple(measured))
      history.add(segment)
    return segment

  def _mixture(self, kind: str):
    if kind == "constant":
      return None
    if kind == "loss":
      weights = self.history.weights
    else:
      size, linear = self.config.train.batch_size, kind == "linear"

      def weights(row: int) -> list[float]:
        return [e.weight_at(row // size, linear) for e in self.entries]

    return mixture.Scheduled(weights, len(self.entries), self.config.data.window)

  def _check_delay(self) -> None:
    needed = ahead.depth(self.config.data.threads) + 1
    if self.config.data.mixture_every <= needed:
      raise ConfigError(
        f"data.mixture_every: {self.config.data.mixture_every} must be more than the "
        f"{needed} batches that data.threads={self.config.data.threads} read ahead"
      )

  def _hash(self, sources: list[Source], kind: str, breaks: list[int]) -> str:
    data, builder = self.config.data, self.builder
    entries: list[SourceConfig] = self.entries
    changes = []  # what decides how weights change
    if kind != "constant":
      changes = [kind, self.config.train.batch_size]
    if kind == "loss":
      changes += [data.mixture_every, data.mixture_rate, data.mixture_floor]
    if breaks:
      changes += ["breaks", breaks]
    if data.clean_copy:
      changes += ["clean_copy"]
    if data.chat:
      changes += [data.chat]
    if data.marks or data.pictures_first:
      changes += [data.marks, data.pictures_first]
    if data.image_tokens:
      changes += [data.image_tokens]
    if self.config.read.pictures:
      changes += [self.config.model.read, self.config.features]
    if self.config.native:
      changes += [self.config.vision.patch_size, self.config.unit]
    if factors := loss_factors(self.config):
      changes += [self.config.train.batch_size, self.config.starts, factors]
    return hashing.stable_hash(
      [
        VERSION, self.config.seed, data.seq_len, data.images_per_row, data.window,
        builder.tokenizer.signature, builder.grid, builder.time_token,
        data.caption_dropout, changes,
        [[s.signature, len(s), e.weight, e.schedule, e.reference]
         for s, e in zip(sources, entries, strict=True)],
      ],
      digits=32,
    )  # fmt: skip
