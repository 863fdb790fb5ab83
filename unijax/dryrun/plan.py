"""One dry run from start to end: compile, read, count, bound, and search if need be."""

import dataclasses
import math

import jax

from unijax.config import Config
from unijax.dryrun import compiled, flops, roofline, search, topology
from unijax.dryrun.compiled import Outcome
from unijax.scale.mesh import row_shards

ROWS_READ = 16  # real packed rows that the averages are taken over
CYCLES = (
  "the compiler's estimate for the instructions of one chip's schedule, loops "
  "multiplied out; it leaves out waiting for collectives and copies, and whatever is "
  "listed under without_estimate"
)


def plan(config: Config, name: topology.Name, most: int) -> tuple[dict, str]:
  """Dry-runs the training step.

  Args:
    config: of the run.
    name: the topology; `topology.prepare` has been called.
    most: candidates that the search for a fitting change may compile.

  Returns:
    (the report, text of the compiled module; empty if it does not fit).

  Raises:
    ConfigError: the config does not fit the mesh, or the topology is unknown.
  """
  devices = topology.devices(name)
  row, vocab = read_rows(config)
  meshes = []

  def attempt(c: Config, label: str) -> Outcome:
    outcome, mesh = compiled.compile_train(c, vocab, devices, name.slices, label)
    meshes.append(mesh)
    return outcome

  outcome = attempt(config, f"the training step for {name}")
  mesh = meshes[0]
  report = {
    "topology": str(name), "devices": name.devices,
    "mesh": {axis: n for axis, n in mesh.shape.items() if n > 1},
    "jax": jax.__version__, "compiler": compiler(name),
    "fits": outcome.fits, "compile_seconds": round(outcome.seconds, 1),
    "compile_cpu_seconds": round(outcome.cpu_seconds, 1),
    "tokens_per_step": config.train.batch_size * config.data.seq_len,
    "rows": {**dataclasses.asdict(row), "padding": row.padding},
    "memory_bytes": outcome.memory,
    "memory_limit_bytes": outcome.limit or (int(name.chip.hbm) if name.chip else None),
    "flops": flops.train_step(config, vocab, row),
  }  # fmt: skip
  if outcome.fits:
    report |= _reading(config, name, outcome, mesh, row, vocab)
  else:
    report["needs_bytes"] = outcome.needs
    report |= _smallest_change(config, mesh, outcome, attempt, most)
  return report, outcome.text


def read_rows(config: Config) -> tuple[flops.Layout, int]:
  """Packs a few rows of the config's own data: (their averages, vocabulary size)."""
  from unijax.data.loader import Loader

  few = min(config.train.batch_size, ROWS_READ)
  train = dataclasses.replace(config.train, batch_size=few)
  loader = Loader(dataclasses.replace(config, train=train))
  row = flops.measure(loader.batch(0), config.model.image_mask)
  return row, loader.builder.vocabulary.size


def compiler(name: topology.Name) -> str:
  """The version of the compiler that was asked."""
  import importlib.metadata

  package = "jaxlib" if name.chip is None else "libtpu"
  return f"{package} {importlib.metadata.version(package)}"


def _reading(config, name, outcome: Outcome, mesh, row, vocab) -> dict:
  """What can be said of a step that compiled."""
  found = compiled.network(outcome.text, mesh, name.slices)
  tokens = config.train.batch_size * config.data.seq_len
  estimate = found["cycles"]
  found["cycles"] = {
    **estimate, "per_token": estimate["total"] * name.devices / tokens, "what": CYCLES,
  }  # fmt: skip
  if name.chip is None:
    return found
  counted = flops.train_step(config, vocab, row)
  whole = dataclasses.replace(
    row, tokens=row.positions, patches=row.positions,
    images=config.data.images_per_row,
  )  # fmt: skip
  run = flops.train_step(config, vocab, whole)
  sent = {"ICI": 0.0, "DCN": 0.0}
  for c in found["collectives"]:
    sent[c["network"]] += c["sent_bytes"]
  weights = outcome.memory["params"] / 4 * _storage(mesh)
  work = roofline.Work(
    model_flops=counted["model"],
    computed_flops=run["model"] + run["recomputed"],
    hbm_bytes=roofline.hbm_bytes(config, outcome.memory, mesh.shape["tensor"], weights),
    ici_bytes=sent["ICI"],
    dcn_bytes=sent["DCN"],
    tokens=row.tokens * config.train.batch_size,
  )
  return {**found, "roofline": roofline.floors(name.chip, name.devices, work)}


def _storage(mesh) -> int:
  """Parts that parameters are stored in."""
  return math.prod(mesh.shape[a] for a in ("fsdp", "context", "tensor"))


def _smallest_change(config, mesh, outcome: Outcome, attempt, most: int) -> dict:
  parts = row_shards(mesh) * config.train.micro_batches
  rows = config.train.batch_size // parts
  knobs, new, tried = search.search(config, rows, outcome, attempt, most)
  return {
    "change": knobs,
    "memory_bytes_changed": new.memory if new else None,
    "tried": [dataclasses.asdict(t) for t in tried],
  }
