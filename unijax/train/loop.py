"""The training loop, in one fixed order:

  hooks on the old state -> save -> next(data) -> step -> metrics of the step before

The device never waits for the host: the metrics of a step are read while the next one
runs, and the host stays at most AHEAD steps before the device, so that a step that
hangs is noticed and its time is its own. Ctrl-C and SIGTERM save the state; the same
command resumes.
"""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Sequence

import jax

from unijax import codecs
from unijax.checkpoint import rundir
from unijax.checkpoint.start import Start, first_state
from unijax.checkpoint.store import Store
from unijax.config import Config
from unijax.scale.mesh import training_mesh
from unijax.train import guards, skips, stages, tasks, tracking
from unijax.train.events import Events
from unijax.train.functions import StepFunctions
from unijax.train.interrupt import Interrupted, Interruptions
from unijax.train.metrics import to_scalars
from unijax.train.progress import duration
from unijax.train.run import Hook, Run, announce, open_run, versions
from unijax.train.skips import Rewind
from unijax.types import TrainState

AHEAD = 2  # steps that are dispatched and not known to be done


def train(
  config: Config,
  workdir: str | pathlib.Path,
  hooks: Sequence[Hook] = (),
  begin: Start = Start(),  # noqa: B008 (frozen)
  rewind: Rewind | None = None,
  began: float | None = None,
):
  """Trains, or resumes, the run of a directory to config.train.steps.

  Args:
    config: of the run.
    workdir: its directory.
    hooks: what else to do, and when.
    begin: what to begin with.
    rewind: go back to an earlier checkpoint first, and leave batches out.
    began: when the process started, by time.time(), for the account of time.

  Returns:
    (final TrainState, Run).

  Raises:
    ConfigError: a package of track.writers is missing.
    CheckpointError: the directory holds a run of another config, or cannot be written.
    Diverged: too many steps in a row were refused.
    Interrupted: Ctrl-C or SIGTERM (Preempted); the state was saved.
  """
  workdir = pathlib.Path(workdir).absolute()
  tracking.check(config.track.writers)
  events = Events(workdir, began)
  rundir.check_same_run(workdir, config)
  rundir.check_codec(workdir, codecs.identity(config.data.codec))
  rewound = skips.rewind(workdir, rewind)
  loader = tasks.make_loader(config, folder=workdir / "plan")
  functions = StepFunctions(config, loader.vocab, training_mesh(config))
  about = {
    "config": rundir.config_hash(config), "plan": loader.plan_hash,
    "versions": versions(),
  }  # fmt: skip
  store = Store(workdir, config.checkpoint, about=about, always=config.starts[1:])
  try:
    abstract = functions.abstract_state()
    state, origin = first_state(store, functions.init, abstract, begin)
    start = int(state.step)
    run = open_run(config, workdir, loader, functions, events, start)
    if rewound:
      run.progress.say(rewound)
    announce(run, state, start, origin)
    with run.writer:
      if start < config.train.steps:
        state = _watched(run, store, state, start, hooks)
    return state, run
  finally:
    store.close()


def _watched(run: Run, store: Store, state, start: int, hooks) -> TrainState:
  """The loop, with its beginning and end in the events."""
  guard = dataclasses.asdict(run.config.guard)
  run.events.start(start, guard=guard, skipped=run.skips.ranges)
  reason = "done"
  try:
    return _loop(run, store, state, start, hooks)
  except BaseException as error:
    reason = type(error).__name__
    raise
  finally:
    run.events.stop(reason)


def _loop(run: Run, store: Store, state, start: int, hooks) -> TrainState:
  """The steps from `start` to the last; nothing moves to or from the device unasked."""
  config, events, watchdog = run.config, run.events, run.watchdog
  batches = run.skips.iterate(run.loader, start, run.functions.part())
  running: collections.deque = collections.deque()  # losses of dispatched steps
  pending = None  # metrics of the step before, still on the device
  compiled = set()  # the steps of stages that ran in this process
  with contextlib.ExitStack() as stack:
    stack.callback(batches.close)
    interruptions = stack.enter_context(Interruptions())
    stack.enter_context(watchdog)
    stack.enter_context(jax.transfer_guard("disallow"))
    events.enter("other")
    for step in range(start, config.train.steps):
      stop = interruptions.reached(step)
      if not stop:
        _call_hooks(hooks, run, state, step)
        stop = interruptions.asked  # while a hook ran
      measured = run.writer.at(step)
      save_now = step > start and store.due(step, measured)
      if save_now or stop:
        # Or a resumed run would miss this line.
        _write(run, step - 1, pending, check=True)
        pending = None
        _save(run, store, state, step, measured)
      if stop:
        raise _interrupted(run, store, step, interruptions)
      if step == start or step in config.starts:
        stages.enter(run, state, step)
      batch = _next(run, batches)
      train = run.functions.train_at(step)
      first = train not in compiled
      compiled.add(train)
      with _step_span(run, step, first):
        state, metrics = train(state, run.functions.place(batch))
        running.append(metrics["loss"].total)
        if step == start or len(running) > AHEAD:
          jax.block_until_ready(running.popleft())
      watchdog.step_ended()
      events.step = step + 1
      _write(run, step - 1, pending)
      pending = metrics
      if step == start:
        seconds = time.monotonic() - run.progress.began
        run.progress.say(f"first step after {duration(seconds)}")
        events.flush()  # init and compile, which are never done again
    _write(run, config.train.steps - 1, pending)
    _call_hooks(hooks, run, state, config.train.steps, last=True)
    _save(run, store, state, config.train.steps, run.writer.at(config.train.steps))
    with _unguarded(run, "checkpoint", "writing the last checkpoint"):
      store.wait()
  return state


def _next(run: Run, batches):
  """The next batch, and what waiting for it took."""
  began = time.monotonic()
  run.events.enter("data_wait")
  run.watchdog.doing = "waiting for a batch"
  run.number, batch = next(batches)
  run.events.enter("other")
  run.progress.wait(time.monotonic() - began)
  return batch


@contextlib.contextmanager
def _step_span(run: Run, step: int, first: bool):
  run.watchdog.doing = f"step {step} on the device"
  with contextlib.ExitStack() as stack:
    if first:
      stack.enter_context(run.watchdog.long("compiling the step"))
    stack.enter_context(run.events.within("compile" if first else "step"))
    yield


def _save(run: Run, store: Store, state: TrainState, step: int, measured) -> None:
  """Saves a step, with what was measured at it."""
  with _unguarded(run, "checkpoint", f"saving step {step}"):
    store.save(state, step, measured)
  run.events.flush()


def _interrupted(run: Run, store: Store, step: int, by: Interruptions) -> Interrupted:
  with _unguarded(run, "checkpoint", "writing the last checkpoint"):
    store.wait()
  return by.error(
    f"stopped at step {step} of {run.config.train.steps}, saved in {run.workdir}; "
    "the same command resumes"
  )


def _call_hooks(hooks, run: Run, state: TrainState, step: int, last=False) -> None:
  due = [h for h in hooks if last or (step > 0 and step % h.every == 0)]
  if due:
    with _unguarded(run, "evaluation", f"hooks at step {step}"):
      for hook in due:
        hook.call(run, state, step)


@contextlib.contextmanager
def _unguarded(run: Run, span: str, doing: str):
  """What happens between steps: in its own time, and free to move arrays."""
  with (
    jax.transfer_guard("allow"), run.events.within(span), run.watchdog.long(doing)
  ):  # fmt: skip
    yield


def _write(run: Run, step: int, metrics, check: bool = False) -> None:
  """Writes what is due; `check` looks at the numbers even if they are not.

  Raises:
    Diverged: too many steps in a row were refused.
  """
  if metrics is None:
    return
  t, guard = run.config.train, run.config.guard
  due = step % t.log_every == 0 or step == t.steps - 1
  if not due and not check and step % guard.patience:
    return
  scalars = to_scalars(jax.device_get(metrics))
  if due:
    batch = run.skips.batch(step)
    rates = run.progress.report(step + 1, scalars, stages.label(run.config, step))
    if run.config.stages:
      rates["stage"] = run.config.stage_of(step) + 1
    rates["padding"] = run.loader.padding(step)
    run.writer.scalars(step, {**scalars, "batch": batch, **rates}, "train")
    run.events.flush()
    _tell_refused(run, step, scalars)
  guards.check(guard, step, scalars, run.skips.batch)


def _tell_refused(run: Run, step: int, scalars: dict[str, float]) -> None:
  nonfinite, spikes = scalars["skipped_nonfinite"], scalars["skipped_spike"]
  if nonfinite + spikes > run.refused:
    run.refused = int(nonfinite + spikes)
    run.progress.say(
      f"step {step + 1}: {run.refused} steps refused so far, {nonfinite:.0f} not "
      f"finite and {spikes:.0f} spikes"
    )
