"""Ctrl-C between steps instead of inside one."""

import signal
import threading


class Interrupted(Exception):
  """Training was stopped by Ctrl-C after saving; the message says how to go on."""


class Interruptions:
  """While open, the first Ctrl-C only sets `asked`; the second one interrupts at once.

  A step donates its state, so stopping inside one would leave nothing to save.
  """

  def __init__(self):
    self.asked = False
    self._before = None

  def __enter__(self) -> "Interruptions":
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGINT, self._handle)
    return self

  def __exit__(self, *_) -> None:
    if self._before is not None:
      signal.signal(signal.SIGINT, self._before)

  def _handle(self, number, frame) -> None:
    if self.asked:
      raise KeyboardInterrupt
    self.asked = True
