"""Checkpoints on disk.

  checkpoints/12/manifest.json     what was saved: digests, hashes, versions
  checkpoints/12/state/            the arrays, as Orbax writes them
  checkpoints/15.tmp/              being written
  checkpoints/9.damaged/           set aside; nothing reads it

A checkpoint is the whole TrainState; since every batch is a function of its number, the
step in it is also the position in the data. Arrays have dotted names, so that one can
be read in part, and without the code of the model. A step is written beside its place
and renamed into it, manifest and all, in one act of the file system.
"""

import concurrent.futures
import dataclasses
import math
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from unijax.checkpoint import integrity
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.integrity import Leaf, Manifest
from unijax.checkpoint.policy import Policy
from unijax.checkpoint.reader import Reader, stderr
from unijax.config import CheckpointConfig
from unijax.disk import sync
from unijax.types import TrainState

FAILED = (OSError, ValueError, RuntimeError)  # what Orbax raises where it cannot write


class Store(Reader):
  """Checkpoints of one run directory, to save and to read.

  Args:
    workdir: the run directory; created on opening, unless read_only.
    options: when to save and what to keep; None keeps everything.
    read_only: open an existing run only for reading.
    about: what identifies the run, kept in every manifest; see `Reader`.
    say: prints one sentence.
    always: steps that are saved and kept whatever the options say.

  Raises:
    CheckpointError: read_only and the directory holds no run, or it cannot be made.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    options: CheckpointConfig | None = None,
    read_only: bool = False,
    about: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = stderr,
    always: Iterable[int] = (),
  ):
    super().__init__(workdir, read_only, about, say)
    self._writing: concurrent.futures.Future | None = None
    try:
      self._prepare()
    except OSError as error:
      raise self._failed("anything", error) from error
    self.policy = None
    if options is not None:
      self.policy = Policy(options, self._best(options), always=frozenset(always))
    self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")

  def _prepare(self) -> None:
    """Makes the directory and removes what an interrupted save left."""
    if self.read_only or jax.process_index():
      return
    self.root.mkdir(parents=True, exist_ok=True)
    for path in self.root.iterdir():
      if re.fullmatch(r"\d+(\.old)?\.tmp", path.name):
        shutil.rmtree(path)

  def _best(self, options: CheckpointConfig) -> float | None:
    values = [m[options.best_metric] for m in self.metrics().values()
              if options.best_metric in m]  # fmt: skip
    if not values:
      return None
    return min(values) if options.best_mode == "min" else max(values)

  def due(self, step: int, metrics: Mapping[str, float] | None = None) -> bool:
    """Whether the policy wants the state before `step`, with these metrics, saved."""
    return self.policy is not None and self.policy.due(step, metrics or {})

  def save(
    self, state: TrainState, step: int, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Starts writing the state; returns once it is copied, before it is on disk.

    A step that was saved or restored last is not written again. The digests are
    started on the device here and fetched by the thread that writes.

    Args:
      state: any tree of arrays.
      step: its name.
      metrics: what was measured on this state.

    Raises:
      CheckpointError: the disk is full or not writable, now or during the save
        before; earlier steps stay intact.
    """
    if step == self._last:
      return
    self._join()
    metrics = {k: float(v) for k, v in (metrics or {}).items() if math.isfinite(v)}
    leaves = integrity.named_leaves(state)
    digests = integrity.digests(leaves)
    forms = {name: integrity.stored_form(x) for name, x in leaves.items()}
    manifest = Manifest(step, time.time(), forms, {}, self.about, metrics)
    data = {
      name: jax.random.key_data(x) if integrity.is_key(x) else x
      for name, x in leaves.items()
      if x.size  # Orbax has no arrays without elements; the manifest says enough
    }
    temporary = self.folder(step).with_suffix(".tmp")
    try:
      if jax.process_index() == 0 and temporary.exists():
        shutil.rmtree(temporary)
      self._arrays.write(temporary / "state", data)
    except FAILED as error:
      raise self._failed(step, error) from error
    self._writing = self._thread.submit(self._finish, manifest, digests)
    self._last = step
    if self.policy is not None:
      self.policy.saved(metrics)

  def _finish(self, manifest: Manifest, digests: Mapping[str, jax.Array]) -> None:
    """Completes a save: in the thread. The first process does it for all."""
    self._arrays.wait()
    if jax.process_index():
      return
    place = self.folder(manifest.step)
    temporary = place.with_suffix(".tmp")
    fetched = jax.device_get(dict(digests))
    leaves = {
      name: Leaf(*form, tuple(int(v) for v in fetched[name]))
      for name, form in manifest.leaves.items()
    }
    files = integrity.hash_files(temporary)
    integrity.write_manifest(
      temporary, dataclasses.replace(manifest, leaves=leaves, files=files)
    )
    old = place.with_suffix(".old.tmp")
    if place.exists():
      place.rename(old)
    temporary.rename(place)
    sync(self.root)
    shutil.rmtree(old, ignore_errors=True)
    if self.policy is not None:
      for step in set(self.steps()) - self.policy.kept(self.metrics()):
        shutil.rmtree(self.folder(step))

  def first_whole(self, use, step=None):
    """As of `Reader`, after what is being written."""
    self.wait()
    return super().first_whole(use, step)

  def wait(self) -> None:
    """Waits until all that was saved is on disk. Raises as `save` does."""
    step = self._last if self._writing else None
    self._join()
    if step is not None and jax.process_count() > 1:
      # The first process renames after the others are done.
      multihost_utils.sync_global_devices(f"checkpoint {step}")

  def _join(self) -> None:
    if self._writing is None:
      return
    writing, step = self._writing, self._last
    self._writing = None
    try:
      writing.result()
    except FAILED as error:
      self._last = None
      self._arrays.reset()
      shutil.rmtree(self.folder(step).with_suffix(".tmp"), ignore_errors=True)
      raise self._failed(step, error) from error

  def close(self) -> None:
    """Waits for writes and releases threads; says so if a write had failed."""
    try:
      self._join()  # alone: another process may have gone
    except CheckpointError as error:
      self.say(str(error))
    self._thread.shutdown()
    super().close()

  def _failed(self, step, error) -> CheckpointError:
    return CheckpointError(
      f"could not save {step} under {self.workdir}: {error}. Free some disk space or "
      "choose another --workdir; the run resumes from its last checkpoint"
    )
