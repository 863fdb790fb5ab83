"""Reading ahead: batches are built by threads while the training step runs.

Batches come in order whatever thread was first. An error in a thread is raised where
the batch it belongs to is asked for, and ends the reading; nothing is left behind.
"""

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from unijax.types import Batch


def depth(threads: int) -> int:
  """Returns how many batches are begun ahead of the one asked for, at most."""
  return max(4, 2 * threads) if threads else 0


class Ahead(Iterator[Batch]):
  """Batches from a step on, built ahead by threads. Close it when done.

  Args:
    make: step -> Batch, a pure function that threads may call together.
    step: of the first batch.
    threads: that build batches; 0 builds each one when it is asked for.
    on_close: called once, at the end.
  """

  def __init__(
    self,
    make: Callable[[int], Batch],
    step: int,
    threads: int,
    on_close: Callable[[], None] = lambda: None,
  ):
    self._make, self._step, self._depth = make, step, depth(threads)
    self._on_close = on_close
    self._begun: collections.deque[Future] = collections.deque()
    self._pool = ThreadPoolExecutor(threads, "rows") if threads else None
    self._closed = False

  def __next__(self) -> Batch:
    if self._closed:
      raise StopIteration
    try:
      if self._pool is None:
        batch = self._make(self._step)
        self._step += 1
        return batch
      while len(self._begun) < self._depth:
        self._begun.append(self._pool.submit(self._make, self._step))
        self._step += 1
      # Left in its place until it is there: an interrupted wait loses no batch.
      batch = self._begun[0].result()
      self._begun.popleft()
      return batch
    except Exception:
      self.close()
      raise

  def close(self) -> None:
    """Stops the threads; what they were building is dropped. May be called again."""
    if self._closed:
      return
    self._closed = True
    if self._pool is not None:
      self._pool.shutdown(wait=True, cancel_futures=True)
    self._begun.clear()
    self._on_close()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def __del__(self):
    if not getattr(self, "_closed", True):
      self.close()
