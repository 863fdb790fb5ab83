"""The training loop, in one fixed order:

  hooks on the old state -> save -> next(data) -> step -> metrics of the step before

The device never waits for the host: the metrics of a step are read while the next one
runs. Interrupting saves the state and says how to resume.
"""

import dataclasses
import pathlib
import platform
import time
from collections.abc import Callable, Sequence

import flax
import jax
import numpy as np
import optax
from clu import parameter_overview

import unijax
from unijax.checkpoint import store as store_lib
from unijax.checkpoint.store import Store
from unijax.config import Config
from unijax.data.loader import Loader
from unijax.scale.mesh import training_mesh
from unijax.train.functions import StepFunctions
from unijax.train.interrupt import Interrupted, Interruptions
from unijax.train.metrics import MetricWriter, to_scalars
from unijax.train.progress import Progress, duration
from unijax.types import TrainState


@dataclasses.dataclass
class Run:
  """What hooks may look at."""

  config: Config
  workdir: pathlib.Path
  loader: Loader
  functions: StepFunctions
  writer: MetricWriter
  progress: Progress


@dataclasses.dataclass(frozen=True)
class Hook:
  """Something done every so many steps, before that step, and at the end."""

  every: int
  call: Callable[[Run, TrainState, int], None]


def train(config: Config, workdir: str | pathlib.Path, hooks: Sequence[Hook] = ()):
  """Trains, or resumes, the run of a directory to config.train.steps.

  Returns:
    (final TrainState, Run).

  Raises:
    CheckpointError: the directory holds a run of another config, or cannot be written.
    Interrupted: Ctrl-C; the state was saved.
  """
  workdir = pathlib.Path(workdir).absolute()
  store_lib.check_same_run(workdir, config)
  loader = Loader(config)
  functions = StepFunctions(
    config, loader.builder.vocabulary.size, training_mesh(config)
  )
  store = Store(workdir, config.train.keep_checkpoints)
  try:
    state = _first_state(store, functions)
    start = int(state.step)
    store_lib.write_config(workdir, config, {"versions": versions()})
    # What was measured at the last step, after training, belongs to a finished run.
    first_new = start + (start >= config.train.steps)
    writer = MetricWriter(workdir, first_new)
    progress = Progress(config.train.steps, start)
    run = Run(config, workdir, loader, functions, writer, progress)
    _announce(run, state, start)
    state = _loop(run, store, state, start, hooks)
    run.writer.close()
    return state, run
  finally:
    store.close()


def versions() -> dict[str, str]:
  """Versions that decide the numbers of a run."""
  return {
    "unijax": unijax.__version__, "python": platform.python_version(),
    "jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__,
    "platform": f"{jax.devices()[0].platform} x{jax.device_count()}",
  }  # fmt: skip


def _first_state(store: Store, functions: StepFunctions) -> TrainState:
  if store.steps():
    return store.restore(functions.abstract_state())
  return functions.init()


def _announce(run: Run, state: TrainState, start: int) -> None:
  if start:
    run.progress.say(f"resumed {run.workdir} at step {start}")
    return
  overview = parameter_overview.get_parameter_overview(
    state.params, include_stats=False
  )
  (run.workdir / "parameters.txt").write_text(overview + "\n")
  count = sum(x.size for x in jax.tree.leaves(state.params))
  run.progress.say(
    f"{count:,} parameters; rows of {run.config.data.seq_len} positions, "
    f"{run.config.train.batch_size} a step; writing to {run.workdir}"
  )


def _loop(run: Run, store: Store, state, start: int, hooks) -> TrainState:
  config, progress = run.config, run.progress
  batches = run.loader.iterate(start)
  pending = None  # metrics of the step before, still on the device
  try:
    with Interruptions() as interruptions:
      for step in range(start, config.train.steps):
        _call_hooks(hooks, run, state, step)
        save_now = step > start and step % config.train.checkpoint_every == 0
        if save_now or interruptions.asked:
          # Or a resumed run would miss this line.
          _write(run, step - 1, pending, check=True)
          pending = None
          if step not in store.steps():
            store.save(state, step)
        if interruptions.asked:
          raise _interrupted(run, store, step)
        began = time.monotonic()
        batch = next(batches)
        progress.wait(time.monotonic() - began)
        state, metrics = run.functions.train(state, run.functions.place(batch))
        _write(run, step - 1, pending)
        pending = metrics
        if step == start:
          jax.block_until_ready(state)
          progress.say(
            f"first step after {duration(time.monotonic() - progress.began)}"
          )
    if start < config.train.steps:
      _write(run, config.train.steps - 1, pending)
      _call_hooks(hooks, run, state, config.train.steps, last=True)
      store.save(state, config.train.steps)
    store.wait()
    return state
  finally:
    if hasattr(batches, "close"):
      batches.close()


def _interrupted(run: Run, store: Store, step: int) -> Interrupted:
  store.wait()
  return Interrupted(
    f"stopped at step {step} of {run.config.train.steps}, saved in {run.workdir}; "
    "the same command resumes"
  )


def _call_hooks(hooks, run: Run, state: TrainState, step: int, last=False) -> None:
  for hook in hooks:
    if last or (step > 0 and step % hook.every == 0):
      hook.call(run, state, step)


def _write(run: Run, step: int, metrics, check: bool = False) -> None:
  """Writes what is due; `check` looks at the numbers even if they are not."""
  if metrics is None:
    return
  due = step % run.config.train.log_every == 0 or step == run.config.train.steps - 1
  if not due and not check:
    return
  scalars = to_scalars(metrics)
  if due:
    rates = run.progress.report(step + 1, scalars)
    run.writer.scalars(step, {**scalars, **rates}, "train")
  for name in ("loss", "grad_norm", "param_norm"):
    if not np.isfinite(scalars[name]):
      raise FloatingPointError(
        f"{name} is {scalars[name]} at step {step}: lower optim.learning_rate or "
        "raise optim.warmup_steps; the last good checkpoint is kept"
      )
