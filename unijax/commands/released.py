"""`unijax systems --released`: memory that released models need, counted from shapes.

Nothing is compiled: weights, caches, averages, moments and gradients are counted, as
`unijax mesh explain` counts a state; activations and workspace are not, which `unijax
plan` tells of one config at a time.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax

from unijax.commands import mesh
from unijax.config import Config, ConfigError
from unijax.interop import system
from unijax.nn.cache import make_cache
from unijax.train.functions import StepFunctions

GIB = 1 << 30
NARROW = ("kernel", "table")  # leaves that sampling holds in bfloat16
RANK = 16
# Kernels that have a pair in the count: those of the decoder's blocks, or of all maps.
TARGETS = {"unified": ("transformer/blocks/*",)}
HEAD = (
  "system", "size", "parameters", "weights", "context", "cache", "full", "a chip",
  "pairs", "a chip",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Need:
  """Bytes that one released model needs.

  Attributes:
    system, size: as `unijax import` names them.
    parameters: numbers, not bytes.
    weights: kernels and tables in bfloat16, all else in float32.
    context: positions of the cache; 0 where nothing is written.
    cache: of one row with that many, in bfloat16.
    full, pairs: training all parameters, or pairs of rank RANK: parameters, averages,
      moments and gradients, (of all devices, of one); 0 where no kernel has a pair.
  """

  system: str
  size: str
  parameters: int
  weights: int
  context: int
  cache: int
  full: tuple[float, float]
  pairs: tuple[float, float]

  def row(self) -> list[str]:
    """Words for a table; bytes in GiB."""
    sizes = [*map(_gib, (self.weights, self.cache, *self.full, *self.pairs))]
    context = f"{self.context:,}" if self.context else "-"
    number = f"{self.parameters:,}"
    return [self.system, self.size, number, sizes[0], context, *sizes[1:]]


def _gib(size: float) -> str:
  if not size:
    return "-"
  return f"{size / GIB:,.0f}" if size > 1000 * GIB else f"{size / GIB:.3g}"


def needs(devices: int) -> Iterator[Need]:
  """Counts every size of every released system.

  Args:
    devices: that a training state is divided over, `mesh.preset`'s way.
  """
  for name in system.names():
    chosen = system.load(name)
    for size, published in chosen.sizes().items():
      yield need(chosen, size, chosen.config(chosen.fields(published)), devices)


def need(chosen: system.System, size: str, config: Config, devices: int) -> Need:
  """Counts one model."""
  config = _narrow(config, devices)
  leaves = system.leaves(config)
  numbers = {path: math.prod(x.shape) for path, x in leaves.items()}
  weights = sum(
    n * (2 if path.split("/")[-1] in NARROW else x.dtype.itemsize)
    for (path, n), x in zip(numbers.items(), leaves.values(), strict=True)
  )
  context = config.data.seq_len if config.train.task == "unified" else 0
  cache = jax.eval_shape(lambda: make_cache(config, 1, context)) if context else ()
  cache = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))
  vocab = system.vocab(config)
  return Need(
    chosen.name, size, sum(numbers.values()), weights, context, cache,
    _trained(config, vocab, devices), _with_pairs(config, vocab, devices),
  )  # fmt: skip


def _narrow(config: Config, rows: int) -> Config:
  """Activations in bfloat16, and a batch that the devices divide."""
  changed = {
    name: dataclasses.replace(getattr(config, name), dtype="bfloat16")
    for name in ("model", "vision", "text")
  }
  train = dataclasses.replace(config.train, batch_size=rows, micro_batches=1)
  return dataclasses.replace(config, **changed, train=train)


def _trained(config: Config, vocab: int, devices: int) -> tuple[float, float]:
  """Bytes of a training state and its gradients: of all devices, of one."""
  laid = mesh.abstract(config, devices)
  placed = StepFunctions(config, vocab, laid).layout.placed

  def held(laid) -> float:
    found = mesh.bytes_a_device(placed, laid)
    # What is trained has averages, and gradients of their size.
    return sum(found.values()) + found["ema_params"]

  return held(mesh.abstract(config, 1)), held(laid)


def _with_pairs(config: Config, vocab: int, devices: int) -> tuple[float, float]:
  targets = TARGETS.get(config.train.task, ("*",))
  lora = dataclasses.replace(config.lora, rank=RANK, targets=targets)
  try:
    return _trained(dataclasses.replace(config, lora=lora), vocab, devices)
  except ConfigError as error:
    if "lora.targets" not in str(error):
      raise
    return 0.0, 0.0
