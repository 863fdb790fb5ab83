"""One dry run from start to end: compile, read, count, bound, and search if need be."""

import dataclasses

import jax

from unijax.config import Config, ConfigError
from unijax.dryrun import compiled, flops, products, roofline, search, topology
from unijax.dryrun.compiled import Outcome, Step
from unijax.errors import nearest
from unijax.scale.mesh import row_shards
from unijax.train import stages, tasks
from unijax.types import Batch

ROWS_READ = 16  # real rows of the loader that the averages are taken over
CYCLES = (
  "the compiler's estimate for the instructions of one chip's schedule, loops "
  "multiplied out; it leaves out waiting for collectives and copies, and whatever is "
  "listed under without_estimate"
)


def programs(config: Config, stage: str | None = None) -> dict[int, list[str]]:
  """Returns the steps to plan: number of a stage -> names of all that share its step.

  Args:
    config: of the run.
    stage: name of the only one that is wanted.

  Raises:
    ConfigError: no stage has this name.
  """
  if not config.stages:
    if stage is not None:
      raise ConfigError(f"--stage={stage}: train.stages is empty; leave --stage out")
    return {0: []}
  names = [s.name for s in config.stages]
  if stage is not None:
    if stage not in names:
      known = nearest(stage, names) or f"; train.stages has {', '.join(names)}"
      raise ConfigError(f"--stage={stage}: unknown{known}")
    return {names.index(stage): [stage]}
  same: dict[int, list[str]] = {}
  for name, first in zip(
    names, stages.programs(config, lambda number, _: number), strict=True
  ):
    same.setdefault(first, []).append(name)
  return same


def plan(
  config: Config, name: topology.Name, most: int, stage: int = 0
) -> tuple[dict, str]:
  """Dry-runs the training step of any task.

  Args:
    config: of the run.
    name: the topology; `topology.prepare` has been called.
    most: candidates that the search for a fitting change may compile.
    stage: number of the stage whose step is planned.

  Returns:
    (the report, text of the compiled module; empty if it does not fit).

  Raises:
    ConfigError: the config does not fit the mesh, or the topology is unknown.
  """
  devices = topology.devices(name)
  rows, vocab = read_rows(config.at(stage))
  made: list[Step] = []

  def attempt(c: Config, label: str) -> Outcome:
    slices = name.slices
    made.append(compiled.compile_train(c, vocab, rows, devices, slices, label, stage))
    return made[-1].outcome

  outcome = attempt(config, f"the training step for {name}")
  first, unit = made[0], Unit.of(config, rows)
  report = {
    "topology": str(name), "devices": name.devices,
    "mesh": {axis: n for axis, n in first.mesh.shape.items() if n > 1},
    "jax": jax.__version__, "compiler": compiler(name),
    "fits": outcome.fits, "compile_seconds": round(outcome.seconds, 1),
    "compile_cpu_seconds": round(outcome.cpu_seconds, 1),
    "batch": f"{config.train.batch_size:,} {first.item}",
    "unit": unit.name, "units_per_step": unit.count,
    "memory_bytes": outcome.memory,
    "memory_limit_bytes": outcome.limit or (int(name.chip.hbm) if name.chip else None),
  }  # fmt: skip
  report |= count(config.at(stage), vocab, rows)
  if outcome.fits:
    report |= _reading(config, name, first, unit, report["flops"])
  else:
    report["needs_bytes"] = outcome.needs
    report |= _smallest_change(config, first, attempt, most)
  return report, outcome.text


def read_rows(config: Config):
  """Reads a few rows of the config's own data: (a batch, vocabulary size)."""
  few = min(config.train.batch_size, ROWS_READ)
  train = dataclasses.replace(config.train, batch_size=few)
  loader = tasks.make_loader(dataclasses.replace(config, train=train))
  return loader.batch(0), loader.vocab


@dataclasses.dataclass(frozen=True)
class Unit:
  """What is counted where something is told by the piece.

  Attributes:
    name: a position of packed rows, padding too, or a picture.
    count: of a step.
    used: those of a step that are no padding.
  """

  name: str
  count: int
  used: float

  @classmethod
  def of(cls, config: Config, rows) -> "Unit":
    """The unit of a task, counted over rows of its loader."""
    size = config.train.batch_size
    if not isinstance(rows, Batch):
      return cls("picture", size, size)
    used = float((rows.segment_BT > 0).mean())
    count = size * rows.segment_BT.shape[1]
    return cls("position", count, count * used)


def count(config: Config, vocab: int, rows) -> dict:
  """Counts the FLOPs of a step of any task, from shapes alone.

  Args:
    config: of the run, or of a stage.
    vocab: ids that the token table holds.
    rows: a batch of the run's loader, of any size. Only packed rows are looked at: for
      what of them is of use.

  Returns:
    flops: `dense`, all products of the step; `computed`, without keys that a mask
      hides, which kernels skip; `recomputed`, what remat adds to that; `model`,
      `computed` without padding. Beside `dense` they are shares, worked out for the
      decoder and taken for the whole. Tasks without packed rows have no such keys and
      count no padding. For packed rows also `forward`, of the decoder by part, without
      hidden keys and padding.
    rows: averages of the packed rows, if these are such.
  """
  batch = compiled.shapes(rows, config.train.batch_size)
  dense = products.train_step(config, vocab, batch)
  again = products.train_step(config, vocab, batch, remat=True) - dense
  found = {"dense": dense, "computed": dense, "recomputed": again, "model": dense}
  if not isinstance(rows, Batch):
    return {"flops": found}
  row = flops.measure(rows, config.model.image_mask)
  shown = flops.share(config, vocab, row.padded(config.data.images_per_row))
  found["computed"] *= shown
  found["recomputed"] *= shown
  found["model"] *= flops.share(config, vocab, row)
  parts = flops.forward(config, vocab, row)
  found["forward"] = {k: v * config.train.batch_size for k, v in parts.items()}
  averages = {**dataclasses.asdict(row), "padding": row.padding}
  return {"rows": averages, "flops": found}


def compiler(name: topology.Name) -> str:
  """The version of the compiler that was asked."""
  import importlib.metadata

  package = "jaxlib" if name.chip is None else "libtpu"
  return f"{package} {importlib.metadata.version(package)}"


def _reading(config, name, made: Step, unit: Unit, counted: dict) -> dict:
  """What can be said of a step that compiled."""
  outcome, mesh = made.outcome, made.mesh
  found = compiled.network(outcome.text, mesh, name.slices)
  estimate = found["cycles"]
  found["cycles"] = {
    **estimate, "per_unit": estimate["total"] * name.devices / unit.count,
    "what": CYCLES,
  }  # fmt: skip
  if name.chip is None:
    return found
  sent = {"ICI": 0.0, "DCN": 0.0}
  for c in found["collectives"]:
    sent[c["network"]] += c["sent_bytes"]
  work = roofline.Work(
    model_flops=counted["model"],
    computed_flops=counted["computed"] + counted["recomputed"],
    hbm_bytes=roofline.hbm_bytes(
      config, outcome.memory, made.weights, search.remat(config)
    ),
    ici_bytes=sent["ICI"],
    dcn_bytes=sent["DCN"],
    units=unit.used,
  )
  return {**found, "roofline": roofline.floors(name.chip, name.devices, work)}


def _smallest_change(config, made: Step, attempt, most: int) -> dict:
  parts = row_shards(made.mesh) * config.train.micro_batches
  rows = config.train.batch_size // parts
  knobs, new, tried = search.search(config, rows, made.outcome, attempt, most)
  return {
    "change": knobs,
    "memory_bytes_changed": new.memory if new else None,
    "tried": [dataclasses.asdict(t) for t in tried],
  }
