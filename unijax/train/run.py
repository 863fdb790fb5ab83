"""What a run holds while it trains, and how its directory is opened."""

import dataclasses
import functools
import pathlib
import platform
from collections.abc import Callable

import flax
import jax
import optax
from clu import parameter_overview

import unijax
from unijax import codecs
from unijax.checkpoint import rundir
from unijax.config import Config
from unijax.data.loader import Loader
from unijax.train import provenance, skips, stages
from unijax.train.events import Events
from unijax.train.functions import StepFunctions
from unijax.train.metrics import MetricWriter
from unijax.train.progress import Progress
from unijax.train.skips import Skips
from unijax.train.tracking import Trackers
from unijax.train.watchdog import Watchdog
from unijax.types import TrainState


@dataclasses.dataclass
class Run:
  """What hooks may look at.

  Attributes:
    number: of the batch read last.
    refused: steps that the guard refused, as far as was told.
  """

  config: Config
  workdir: pathlib.Path
  loader: Loader
  functions: StepFunctions
  writer: MetricWriter
  progress: Progress
  skips: Skips
  events: Events
  watchdog: Watchdog
  number: int = -1
  refused: int = 0


@dataclasses.dataclass(frozen=True)
class Hook:
  """Something done every so many steps, before that step, and at the end."""

  every: int
  call: Callable[[Run, TrainState, int], None]


def open_run(
  config: Config,
  workdir: pathlib.Path,
  loader: Loader,
  functions: StepFunctions,
  events: Events,
  start: int,
) -> Run:
  """The files of a run, cut back to `start`."""
  skipped = skips.load(workdir)
  codec = codecs.identity(config.data.codec)
  about = {"versions": versions(), "skipped": skipped.ranges, "codec": codec}
  first = jax.process_index() == 0  # it alone writes and speaks
  if first:
    rundir.write_config(workdir, config, about)
    provenance.record(workdir, config, start)
  # What was measured at the last step, after training, belongs to a finished run.
  first_new = start + (start >= config.train.steps)
  progress = Progress(
    config.train.steps, start, silent=not first, shown=functions.task.shown
  )
  trackers = Trackers(workdir, config, progress.say) if first else None
  writer = MetricWriter(workdir, first_new, silent=not first, trackers=trackers)
  leave = functools.partial(events.stop, "hang")
  watchdog = Watchdog(config.guard, workdir, progress.say, leave)
  run = Run(
    config, workdir, loader, functions, writer, progress, skipped, events, watchdog
  )
  watchdog.describe = functools.partial(_position, run)
  return run


def announce(run: Run, state: TrainState, start: int, origin: str) -> None:
  """Says what begins; a fresh run also writes parameters.txt."""
  run.progress.say(origin)
  if start or jax.process_index():
    return
  overview = parameter_overview.get_parameter_overview(
    state.params, include_stats=False
  )
  (run.workdir / "parameters.txt").write_text(overview + "\n")
  if table := stages.table(run.config, state.params):
    run.progress.say(table)
  count = sum(x.size for x in jax.tree.leaves(state.params))
  run.progress.say(
    f"{count:,} parameters; {run.functions.task.describe()}, "
    f"{run.config.train.batch_size} a step; writing to {run.workdir}"
  )


def _position(run: Run) -> str:
  """Where the run is in the data, for whoever reads what a hang left."""
  size, number = run.config.train.batch_size, run.number + 1
  return (
    f"last batch read: {run.number}; the next that is not left out has rows "
    f"{number * size} to {(number + 1) * size - 1} of the plan\n"
    f"batches left out: {run.skips.ranges or 'none'}; "
    f"{run.config.data.threads} threads read ahead"
  )


def versions() -> dict[str, str]:
  """Versions that decide the numbers of a run."""
  return {
    "unijax": unijax.__version__, "python": platform.python_version(),
    "jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__,
    "platform": f"{jax.devices()[0].platform} x{jax.device_count()}",
  }  # fmt: skip
