"""Compiling the functions of a config for devices that need not exist."""

import contextlib
import dataclasses
import math
import re
import sys
import threading
import time
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from unijax.config import Config
from unijax.dryrun import collectives, cycles, hlo
from unijax.dryrun.chips import GIB
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions

UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What the compiler said.

  Attributes:
    fits: it compiled.
    memory: bytes of one device by part; where it did not fit, what is known.
    text: the scheduled module; empty where it did not fit.
    seconds: tracing and compiling, by the clock.
    cpu_seconds: the same, of processor time.
    needs, limit: bytes of memory that the compiler counted against its limit, where it
      did not fit.
  """

  fits: bool
  memory: dict[str, int]
  text: str
  seconds: float
  cpu_seconds: float
  needs: int | None = None
  limit: int | None = None


@dataclasses.dataclass(frozen=True)
class Step:
  """A training step that was compiled, or could not be.

  Attributes:
    mesh: that it was compiled for.
    item: of its batches, in words.
    weights: numbers in the kernels that one device multiplies with, gathered from
      where they are stored.
  """

  outcome: Outcome
  mesh: Mesh
  item: str
  weights: int


def compile_train(
  config: Config, vocab: int, rows, devices, slices: int, label: str, stage: int = 0
) -> Step:
  """Compiles the real training step with abstract arguments in their places.

  Args:
    config: of the run, of any task.
    vocab: ids that the token table holds.
    rows: a batch of the run's loader, of any size.
    devices: to compile for.
    slices: that the devices are in.
    label: shown while it takes its time.
    stage: number of the stage whose step it is.

  Raises:
    ConfigError: the config does not fit the mesh; before anything is compiled.
  """
  mesh = make_mesh(config.mesh, devices, slices)
  functions = StepFunctions(config, vocab, mesh)
  state = functions.abstract_state()
  batch = abstract_batch(rows, config.train.batch_size, functions.layout.batch())
  known = state_bytes(state, batch)
  train = functions.train_at(config.starts[stage])
  outcome = run(lambda: train.lower(state, batch), known, label)
  return Step(outcome, mesh, functions.task.describe(), gathered(state.params, mesh))


def gathered(params, mesh: Mesh) -> int:
  """Numbers of a tree of placed shapes that one device sees while it computes.

  The axes `tensor` and `expert` divide the work; over the others weights are only
  stored in parts.
  """

  def one(x) -> int:
    names = [n for entry in x.sharding.spec for n in _names(entry)]
    parts = math.prod(mesh.shape[n] for n in names if n in ("tensor", "expert"))
    return math.prod(x.shape) // parts

  return sum(one(x) for x in jax.tree.leaves(params))


def _names(entry) -> tuple[str, ...]:
  return entry if isinstance(entry, tuple) else (entry,) if entry else ()


def shapes(rows, size: int):
  """Shapes and dtypes of a batch of `size` rows like those given."""

  def one(x):
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct((size, *x.shape[1:]), dtype)

  return jax.tree.map(one, rows)


def abstract_batch(rows, size: int, places):
  """As `shapes`, with the places of the arrays."""
  return jax.tree.map(
    lambda x, place: x.update(sharding=place), shapes(rows, size), places
  )


def device_bytes(tree) -> int:
  """Bytes that one device holds of a tree of placed shapes."""
  return sum(
    x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape))
    for x in jax.tree.leaves(tree)
  )


def state_bytes(state, batch) -> dict[str, int]:
  """Bytes of one device by what they are for."""
  return {
    "params": device_bytes(state.params),
    "ema": device_bytes(state.ema_params),
    "optimizer": device_bytes(state.opt_state),
    "batch": device_bytes(batch),
  }


def run(lower, known: dict[str, int], label: str) -> Outcome:
  """Lowers and compiles; running out of memory is an answer, not an error.

  Args:
    lower: () -> jax.stages.Lowered.
    known: bytes of the arguments, by part.
    label: shown while it takes its time.
  """
  began, worked = time.monotonic(), time.process_time()
  try:
    with ticking(label):
      compiled = lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    needs, limit = out_of_memory(str(error), sum(known.values()))
    took = time.monotonic() - began, time.process_time() - worked
    return Outcome(False, dict(known), "", *took, needs, limit)
  took = time.monotonic() - began, time.process_time() - worked
  return Outcome(True, memory(compiled, known), compiled.as_text(), *took)


def memory(compiled, known: dict[str, int]) -> dict[str, int]:
  """Bytes of one device by part, and their sum as `total`.

  `gradients` is the part of the temporary memory that gradients of all parameters, or
  of those that have averages, take; `activations` is the rest of it, with collectives
  and workspace. `new_outputs` are results that reuse no argument's memory, `layout`
  what tiling adds to arguments.
  """
  m = compiled.memory_analysis()
  temporary = m.temp_size_in_bytes
  gradients = 0
  if "optimizer" in known:
    gradients = min(temporary, known.get("params", 0), known.get("ema", 0))
  parts = {
    **known,
    "layout": m.argument_size_in_bytes - sum(known.values()),
    "gradients": gradients,
    "activations": temporary - gradients,
    "new_outputs": m.output_size_in_bytes - m.alias_size_in_bytes,
    "program": m.generated_code_size_in_bytes,
  }
  return {**parts, "total": sum(parts.values()), "host": m.host_temp_size_in_bytes}


_USED = re.compile(r"Used ([\d.]+)([BKMGT]?) of ([\d.]+)([BKMGT]?) hbm")
_EXCEEDS = re.compile(
  r"\(([\d.]+)([BKMGT]?)\) exceeds available HBM \(([\d.]+)([BKMGT]?)"
)


def out_of_memory(message: str, arguments: int) -> tuple[int | None, int | None]:
  """Reads (bytes needed, bytes available) from what the compiler says.

  Args:
    message: of its error.
    arguments: bytes, which it leaves out where it speaks of temporaries.
  """
  match = _USED.search(message) or _EXCEEDS.search(message)
  if match is None:
    return None, None
  needs, unit, limit, limit_unit = match.groups()
  extra = arguments if "temporaries" in message else 0
  return (
    round(float(needs) * UNITS[unit]) + extra,
    round(float(limit) * UNITS[limit_unit]),
  )


@contextlib.contextmanager
def ticking(label: str, every: float = 15.0) -> Iterator[None]:
  """Says on stderr, now and then, that a long compilation still runs."""
  done = threading.Event()
  began = time.monotonic()

  def tick():
    while not done.wait(every):
      elapsed = time.monotonic() - began
      print(f"compiling {label}: {elapsed:.0f}s", file=sys.stderr, flush=True)

  thread = threading.Thread(target=tick, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()


def network(text: str, mesh, slices: int) -> dict:
  """Collectives and cycles of a compiled module, ready for JSON."""
  module = hlo.parse(text)
  executed, unknown = hlo.schedule(module)
  layout = collectives.MeshLayout.of(mesh, slices)
  rows = collectives.table(collectives.find(module, executed, layout))
  return {
    "collectives": rows,
    "cycles": cycles.estimate(executed),
    "loops_of_unknown_length": unknown,
  }
