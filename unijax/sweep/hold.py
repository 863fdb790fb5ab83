"""Becomes a trial, after taking the lock of its run folder and a tie to its driver.

  python -S -E hold.py LOCK DRIVER program arguments...

The lock is held by the trial's own process until it ends, however it ends: whatever
became of its driver, nobody else trains in this folder at the same time. The tie is
Linux's PR_SET_PDEATHSIG: when the driver dies, even by SIGKILL, the trial gets SIGTERM,
so it saves and ends. Elsewhere only the lock protects: the next driver waits for it.

This file is run by itself for each trial, hence nothing but quick imports.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time

BUSY = 69  # EX_UNAVAILABLE of sysexits.h: somebody else holds the lock
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def take(path: str) -> int | None:
  """Takes a lock for as long as this process lives; None where somebody else has it.

  Returns:
    The open file; its content says who holds it.

  Raises:
    OSError: the file cannot be written, or its file system has no locks.
  """
  handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    os.close(handle)
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
      return None
    raise
  who = {"pid": os.getpid(), "host": os.uname().nodename, "began": time.time()}
  os.ftruncate(handle, 0)
  os.write(handle, json.dumps(who).encode() + b"\n")
  return handle


def last(path: str | os.PathLike) -> dict:
  """Who took a lock last: pid, host, began (Unix seconds); {} if nobody ever did."""
  with contextlib.suppress(OSError, ValueError), open(path) as file:
    return json.load(file)
  return {}


def held(path: str | os.PathLike) -> bool:
  """Whether a process has the lock now."""
  try:
    handle = os.open(path, os.O_RDWR)
  except FileNotFoundError:
    return False
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return False
  except BlockingIOError:
    return True
  finally:
    os.close(handle)  # which gives a lock back


def tie(driver: int) -> None:
  """From now on this process gets SIGTERM when the driver dies; at once if it has."""
  if sys.platform == "linux":
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != driver:  # it died before
      sys.exit(128 + signal.SIGTERM)


def main(lock: str, driver: str, *command: str) -> None:
  """Becomes the command; ends with BUSY if the lock is taken, 127 without a program."""
  tie(int(driver))
  handle = take(lock)
  if handle is None:
    sys.exit(BUSY)
  os.set_inheritable(handle, True)
  try:
    os.execvp(command[0], command)
  except OSError as error:
    print(f"unijax: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)


if __name__ == "__main__":
  main(*sys.argv[1:])
