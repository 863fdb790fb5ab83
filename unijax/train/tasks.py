"""What a run trains: the table of tasks, and what a task is.

A task supplies batches, parameters and a loss. Optimizer, averages, guards, meshes,
checkpoints, resuming, events and metric files are the same for all of them, and the
loop does not know which one runs. What is measured while a task trains and by `unijax
eval` stands in `unijax.evals.tasks`, under the same names.
"""

import dataclasses
import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
from jax.sharding import Mesh

from unijax import low_rank
from unijax.config import Config
from unijax.data.loader import Loader
from unijax.nn.model import make_model
from unijax.scale import layout
from unijax.train import adapters, step
from unijax.train.progress import LOSSES
from unijax.train.step import Metrics
from unijax.types import Batch

Axes = Any  # a batch whose fields are the names of their axes


class Task:
  """One way to train; subclasses fill it in.

  Args:
    config: of the run.
    vocab: ids that a token table holds, as the loader counts them; tasks without text
      ignore it.

  Attributes:
    model: whatever module the task trains.
    shown: (label, metric), for the line of progress.
  """

  model: Any
  shown: ClassVar[Sequence[tuple[str, str]]] = (("loss", "loss"),)

  def __init__(self, config: Config, vocab: int):
    self.config = config

  @staticmethod
  def loader(
    config: Config, *, held_out: bool = False, folder: str | os.PathLike | None = None
  ):
    """Returns the batches; what it has and takes is as in `data.loader.Loader`.

    The loop reads `iterate`, `padding`, `plan_hash` and `vocab`.
    """
    raise NotImplementedError

  def init_params(self, key: jax.Array):
    """Fresh parameters in boxes that carry the logical names of their axes."""
    raise NotImplementedError

  def total_weights(self, batch):
    """Weights of a whole batch that its parts are divided by."""
    raise NotImplementedError

  def loss(self, params, batch, key: jax.Array, weights=None) -> tuple[Any, Metrics]:
    """Returns (scalar loss, metrics).

    Args:
      params: without boxes.
      batch: rows of the loader.
      key: of this step; the same for all parts of a batch.
      weights: of the batch that this one is a part of; its own if not given. Losses
        and gradients of the parts add up to those of the whole.
    """
    raise NotImplementedError

  def part_weights(self, params, parts, key: jax.Array, weights):
    """Adds to the weights of a batch what only a pass over its parts can tell.

    Args:
      params: without boxes.
      parts: a batch whose fields have an axis of parts in front.
      key: of the step.
      weights: of the whole batch.
    """
    return weights

  def update(self, params, metrics: Metrics, key: jax.Array):
    """Moves what no gradient moves, after the optimizer: (params, metrics) -> the same.

    Metrics are sums over the whole batch, on any mesh and in any number of parts, so
    whatever is computed from them is exact. Those that are of no use to a reader may
    be taken out.
    """
    return params, metrics

  def batch_axes(self) -> Axes:
    """A batch whose fields are tuples of the logical names of their axes."""
    raise NotImplementedError

  def check(self, mesh: Mesh) -> None:
    """Raises ConfigError where the config does not fit the mesh."""
    layout.check_rows(self.config, mesh)

  def describe(self) -> str:
    """One item of a batch, in words."""
    return "items"

  @property
  def plain(self) -> "Task":
    """The task of the same model without low-rank pairs."""
    return self


class PairsTask(Task):
  """Any task, with low-rank pairs beside kernels of its model.

  Its parameters have one more branch; the model of the task takes them joined.
  """

  def __init__(self, plain: Task):
    self.config, self.model, self._plain = plain.config, plain.model, plain
    self.shown = plain.shown

  @property
  def plain(self) -> Task:
    return self._plain

  def init_params(self, key):
    boxed = self.plain.init_params(key)  # the very bits that it has without pairs
    pairs = adapters.fresh(self.config, boxed, jax.random.fold_in(key, 1))
    return {**boxed, low_rank.PAIRS: pairs}

  def total_weights(self, batch):
    return self.plain.total_weights(batch)

  def loss(self, params, batch, key, weights=None):
    return self.plain.loss(self._joined(params), batch, key, weights)

  def part_weights(self, params, parts, key, weights):
    return self.plain.part_weights(self._joined(params), parts, key, weights)

  def update(self, params, metrics, key):
    pairs = {low_rank.PAIRS: params[low_rank.PAIRS]}
    rest = {name: x for name, x in params.items() if name not in pairs}
    rest, metrics = self.plain.update(rest, metrics, key)
    return {**rest, **pairs}, metrics

  def batch_axes(self):
    return self.plain.batch_axes()

  def check(self, mesh: Mesh) -> None:
    self.plain.check(mesh)

  def describe(self) -> str:
    return self.plain.describe()

  def _joined(self, params):
    return low_rank.joined(params, adapters.scale(self.config))


class UnifiedTask(Task):
  """The decoder on packed rows: next tokens, and denoising inside of it."""

  shown = LOSSES
  loader = staticmethod(Loader)

  def __init__(self, config: Config, vocab: int):
    super().__init__(config, vocab)
    self.model = make_model(config, vocab)

  def init_params(self, key):
    return step.init_params(self.config, self.model, key)

  def total_weights(self, batch: Batch):
    return step.total_weights(batch)

  def loss(self, params, batch: Batch, key, weights=None):
    return step.loss_fn(params, self.model, self.config, batch, key, weights)

  def part_weights(self, params, parts: Batch, key, weights):
    return step.part_weights(self.model, self.config, params, parts, key, weights)

  def batch_axes(self) -> Batch:
    c = self.config
    return row_axes(c.data.clean_copy, c.read.pictures, c.native)

  def check(self, mesh: Mesh) -> None:
    super().check(mesh)
    layout.check_decoder(self.config, mesh)

  def describe(self) -> str:
    return f"rows of {self.config.data.seq_len} positions"


NOT_ENCODED = {"pixels_BIHWC": None, "feature_BT": None, "grid_BI2": None}


@functools.cache
def row_axes(clean_copy: bool, encodes: bool, native: bool) -> Batch:
  """Names of the axes of packed rows: rows and positions may be divided.

  Args:
    clean_copy: `data.clean_copy`, without which rows do not say what is hidden.
    encodes: whether rows have pictures for an encoder.
    native: whether these have grids.
  """
  two = ("batch", "sequence")
  deep = dict.fromkeys(("patches_BTC", "position_BTA"), (*two, None))
  axes = {f.name: deep.get(f.name, two) for f in dataclasses.fields(Batch)}
  axes |= {"pixels_BIHWC": ("batch", *[None] * 4)} if encodes else NOT_ENCODED
  axes["grid_BI2"] = ("batch", None, None) if native else None
  return Batch(**{**axes, "hidden_BT": two if clean_copy else None})


# Where each task is; one that a run does not train is not imported.
TASKS = {
  "unified": "unijax.train.tasks:UnifiedTask",
  "codec": "unijax.train.codec_task:CodecTask",
  "alignment": "unijax.train.alignment_task:AlignmentTask",
  "drawing": "unijax.train.drawing_task:DrawingTask",
  "decoder": "unijax.train.decoding:DecoderTask",
}


def task_class(config: Config) -> type[Task]:
  """Returns the class of the task that `train.task` names."""
  module, _, name = TASKS[config.train.task].partition(":")
  return getattr(importlib.import_module(module), name)


def make_task(config: Config, vocab: int) -> Task:
  """Returns the task of a config; `vocab` is as in `Task`."""
  task = task_class(config)(config, vocab)
  return PairsTask(task) if config.lora.rank else task


def make_loader(config: Config, **options):
  """Returns the loader of the config's task; `options` are those of `Task.loader`."""
  return task_class(config).loader(config, **options)
