"""A thread that notices when no step ends, and writes down where everybody stands.

What hangs in a long run (a collective whose peer died, a file system, a loader) raises
nothing. After `guard.hang_seconds`, and at least 20 usual steps, the stacks of all
threads and the position in the data go to `hang-PROCESS.txt`.
"""

import collections
import contextlib
import faulthandler
import os
import pathlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import jax

from unijax.config import GuardConfig
from unijax.train.progress import duration

USUAL = 20  # a hang lasts at least that many median steps
LONG = 12  # compiling, saving and evaluating may take so many times hang_seconds
EXIT_CODE = 76
REMEMBERED = 100  # steps that the median is over


class Watchdog:
  """While open, watches the training thread, which says what it does.

  Args:
    config: the limits.
    workdir: where hang-PROCESS.txt goes.
    say: prints a line.
    leave: called before exiting; it must not wait for the training thread.
    clock: seconds.

  Attributes:
    doing: what the training thread does, for a person to read.
    describe: returns lines on the position in the data.
  """

  config: GuardConfig

  def __init__(
    self,
    config: GuardConfig,
    workdir: pathlib.Path,
    say: Callable[[str], None],
    leave: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
  ):
    self.config, self.say, self.leave, self.clock = config, say, leave, clock
    self.path = workdir / f"hang-{jax.process_index()}.txt"
    self.doing = "starting"
    self.describe: Callable[[], str] = str
    self._long = True
    self._since = self._ended = clock()  # of what it does now; of the last step
    self._told = False
    self._steps: collections.deque[float] = collections.deque(maxlen=REMEMBERED)
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

  def __enter__(self) -> "Watchdog":
    self._since = self._ended = self.clock()
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    self._closed.set()
    self._thread.join()

  def step_ended(self) -> None:
    """Starts the clock anew."""
    now = self.clock()
    if not self._told:  # what hung is not usual
      self._steps.append(now - self._ended)
    self._since = self._ended = now
    self._told = False

  @contextlib.contextmanager
  def long(self, doing: str) -> Iterator[None]:
    """Something that is no step: it has a longer limit of its own."""
    before, self.doing = self.doing, doing
    self._since, self._long, self._told = self.clock(), True, False
    try:
      yield
    finally:
      # What it took is not the step's, neither for the limit nor for the median.
      now = self.clock()
      self._ended += now - self._since
      self.doing, self._since, self._long = before, now, False
      self._told = False

  def limit(self) -> float:
    """Seconds after which what is done now is a hang."""
    if self._long:
      return LONG * self.config.hang_seconds
    usual = statistics.median(self._steps) if self._steps else 0.0
    return max(self.config.hang_seconds, USUAL * usual)

  def check(self) -> bool:
    """Writes the file, and exits if asked to, once a limit is passed."""
    passed = self.clock() - self._since
    if self._told or passed <= self.limit():
      return False
    self._told = True
    with self.path.open("a") as file:
      file.write(
        f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {passed:.0f} s in: {self.doing} "
        f"(limit {self.limit():.0f} s)\n{self.describe()}\n\n"
      )
      file.flush()
      faulthandler.dump_traceback(file, all_threads=True)
    self.say(
      f"hang: {duration(passed)} in: {self.doing}; stacks and the place in the data "
      f"are in {self.path}"
      + (f"; exiting with {EXIT_CODE}" if self.config.hang_exit else "")
    )
    if self.config.hang_exit:
      self.leave()
      os._exit(EXIT_CODE)  # nothing that hangs can be asked to end
    return True

  def _run(self) -> None:
    while not self._closed.wait(min(self.config.hang_seconds / 4, 5.0)):
      self.check()
