"""Ctrl-C and SIGTERM between steps, on the same step in every process."""

import os
import signal
import threading

import jax


class Interrupted(Exception):
  """Training was stopped by Ctrl-C after saving; the message says how to go on."""

  code = 130  # of the process


class Preempted(Interrupted):
  """Training was stopped by SIGTERM after saving: a supervisor starts it again."""

  code = 75  # EX_TEMPFAIL of sysexits.h: try again


class Interruptions:
  """While open, the first Ctrl-C or SIGTERM only sets a flag that `reached` returns.

  A step donates its state, so stopping inside one would leave nothing to save. A
  second Ctrl-C interrupts at once; a second SIGTERM changes nothing.

  With several processes JAX's own preemption service listens for SIGTERM, tells all of
  them, and has them agree on a step that none has passed; Ctrl-C goes the same way.
  """

  def __init__(self):
    self.asked = False  # to stop, where one process decides alone
    self.by_hand = False  # by Ctrl-C here
    self._before: dict[int, object] = {}

  def __enter__(self) -> "Interruptions":
    if threading.current_thread() is threading.main_thread():
      handlers = {signal.SIGINT: self._interrupt}
      if jax.process_count() == 1:
        handlers[signal.SIGTERM] = self._terminate
      self._before = {n: signal.signal(n, handler) for n, handler in handlers.items()}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def reached(self, step: int) -> bool:
    """Whether to stop before this step; call it once at each step, in every process."""
    if jax.process_count() == 1:
      return self.asked
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)

  def error(self, message: str) -> Interrupted:
    """The exception for how it was stopped."""
    return Interrupted(message) if self.by_hand else Preempted(message)

  def _interrupt(self, number, frame) -> None:
    if self.by_hand:
      raise KeyboardInterrupt
    self.by_hand = True
    if jax.process_count() == 1:
      self.asked = True
    else:
      os.kill(os.getpid(), signal.SIGTERM)  # to the preemption service

  def _terminate(self, number, frame) -> None:
    self.asked = True
