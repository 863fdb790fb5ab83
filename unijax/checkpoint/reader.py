"""Reading a run's checkpoints, and what happens to damaged ones."""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from unijax.checkpoint import fits, integrity
from unijax.checkpoint.arrays import Arrays
from unijax.checkpoint.errors import CheckpointError, Damage, DamagedError
from unijax.checkpoint.integrity import Manifest
from unijax.checkpoint.weights import Weights
from unijax.types import TrainState

T = TypeVar("T")
WITHOUT_STATE = ("imported", "merged")  # in `about` of runs that hold weights alone


def stderr(text: str) -> None:
  """Prints one sentence."""
  print(text, file=sys.stderr, flush=True)


class Reader:
  """The checkpoints of a run directory.

  Args:
    workdir: the run directory.
    read_only: never rename anything.
    about: what identifies the run. If it has a 'plan', a checkpoint with another plan
      is refused.
    say: prints one sentence.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    read_only: bool = True,
    about: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = stderr,
  ):
    self.workdir = pathlib.Path(workdir).absolute()
    self.root = self.workdir / "checkpoints"
    self.read_only, self.about, self.say = read_only, dict(about or {}), say
    if read_only and not (self.workdir / "config.json").is_file():
      raise CheckpointError(
        f"{workdir} holds no run (no config.json): "
        "train one with `unijax train --config=... --workdir=...`"
      )
    self._arrays = Arrays()
    self._last: int | None = None  # step restored, or saved or being saved

  def close(self) -> None:
    """Releases threads."""
    self._arrays.close()

  def steps(self) -> list[int]:
    """Steps that have a checkpoint, whole or not, in order; always from disk."""
    if not self.root.is_dir():
      return []
    names = [p.name for p in self.root.iterdir() if p.is_dir()]
    return sorted(int(n) for n in names if re.fullmatch(r"0|[1-9][0-9]*", n))

  def folder(self, step: int) -> pathlib.Path:
    """Where a step is."""
    return self.root / str(step)

  def metrics(self) -> dict[int, Mapping[str, float]]:
    """What was measured on each saved state, where the manifest can be read."""
    found = {}
    for step in self.steps():
      try:
        found[step] = integrity.read_manifest(self.folder(step)).metrics
      except (Damage, CheckpointError):
        found[step] = {}
    return found

  def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
    """Reads a state into the shapes, dtypes and shardings of `abstract`.

    Args:
      abstract: tree of jax.ShapeDtypeStruct with shardings, of any mesh.
      step: which; None is the latest that is whole.

    Raises:
      CheckpointError: no such checkpoint, it does not fit `abstract`, or the step
        asked for is damaged.
      DamagedError: all are damaged.
    """
    return self.first_whole(lambda m: self._restore(m, abstract), step)

  def weights(self, abstract: Any, step: int | None = None) -> tuple[Any, int]:
    """Reads averaged weights alone: (parameters, step).

    Where a checkpoint has no averages, as imported ones have none, they are the weights
    themselves. Low-rank pairs are multiplied in.

    Args:
      abstract: as of `restore`, of the parameters only.
      step: as of `restore`, which also says what is raised.
    """
    wanted = integrity.named_leaves(abstract)

    def read(manifest: Manifest):
      saved = Weights(self, manifest, "ema")
      self._check_fits(dataclasses.replace(manifest, leaves=saved.leaves), wanted)
      arrays = saved.read(wanted)
      leaves = [arrays[name] for name in wanted]
      return jax.tree.unflatten(jax.tree.structure(abstract), leaves), manifest.step

    return self.first_whole(read, step)

  def first_whole(self, use: Callable[[Manifest], T], step: int | None = None) -> T:
    """Applies `use` to the latest checkpoint that is whole.

    A damaged one is named in one sentence and, unless read_only, set aside.

    Args:
      use: from a manifest whose files are checked; may raise Damage.
      step: only this one.

    Raises:
      CheckpointError, DamagedError: as `restore`, or by `use`.
    """
    steps = self.steps()
    if not steps or (step is not None and step not in steps):
      have = f"it has steps {steps}" if steps else "it has none yet"
      wanted = "a checkpoint" if step is None else f"step {step}"
      raise CheckpointError(f"{self.workdir} has not {wanted}: {have}")
    damaged: dict[int, Damage] = {}
    for candidate in steps[::-1] if step is None else [step]:
      try:
        result = use(self.check_files(candidate))
      except Damage as damage:
        damaged[candidate] = damage
        continue
      self._report(damaged, candidate)
      self._last = candidate
      return result
    why = "; ".join(f"step {s}: {d}" for s, d in damaged.items())
    if step is not None and len(steps) > 1:
      others = [s for s in steps if s != step]
      raise CheckpointError(
        f"checkpoint {step} of {self.workdir} is damaged ({damaged[step]}): "
        f"use another of {others}"
      )
    raise DamagedError(
      f"no checkpoint of {self.workdir} is whole ({why}): put back a copy, or train "
      "anew with another --workdir"
    )

  def _report(self, damaged: Mapping[int, Damage], used: int) -> None:
    for step, damage in damaged.items():
      kept = ""
      if not self.read_only:
        kept = f"; the damaged one is kept as {self.set_aside(step, 'damaged').name}"
      if jax.process_index() == 0:
        self.say(
          f"checkpoint {step} of {self.workdir} is damaged ({damage}): using step "
          f"{used} instead{kept}"
        )

  def set_aside(self, step: int, why: str) -> pathlib.Path:
    """Renames STEP to STEP.why, so that nothing reads it; returns where it is."""
    number, place = 1, self.root / f"{step}.{why}"
    while place.exists():
      number += 1
      place = self.root / f"{step}.{why}-{number}"
    if jax.process_count() > 1:  # all have looked before one renames
      multihost_utils.sync_global_devices(f"set aside {step}")
    if jax.process_index() == 0:
      self.folder(step).rename(place)
    return place

  def check_files(self, step: int) -> Manifest:
    """Returns the manifest of a step after comparing every file with it.

    The first process reads and tells the others.

    Raises:
      Damage: naming the file.
      CheckpointError: not of this version, or unreadable for this user.
    """
    if jax.process_count() == 1:
      return integrity.check_files(self.folder(step))
    manifest, error = None, None
    if jax.process_index() == 0:
      try:
        manifest = integrity.check_files(self.folder(step))
      except Exception as caught:  # told to the others first
        error = caught
    whole = multihost_utils.broadcast_one_to_all(np.asarray(error is None))
    if error is not None:
      raise error
    if not whole:
      raise Damage("the first process found it so")
    return manifest or integrity.read_manifest(self.folder(step))

  def read(self, manifest: Manifest, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads some leaves of a checkpoint whose files were checked, and digests them.

    Args:
      manifest: of the step.
      wanted: names -> jax.ShapeDtypeStruct, with a sharding or for the first device.

    Raises:
      Damage: a leaf is not what was saved.
      CheckpointError: it cannot be read, though its files are what was written.
    """
    data, here = {}, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for name, x in wanted.items():
      shape, dtype, _ = integrity.stored_form(x)
      at = getattr(x, "sharding", None) or here
      data[name] = jax.ShapeDtypeStruct(shape, dtype, sharding=at)
    stored = {name: x for name, x in data.items() if x.size}
    arrays = {
      name: jax.make_array_from_callback(
        x.shape, x.sharding, lambda _, x=x: np.zeros(x.shape, x.dtype)
      )
      for name, x in data.items()
      if not x.size
    }
    try:
      arrays |= self._arrays.read(self.folder(manifest.step) / "state", stored)
    except Exception as error:
      raise CheckpointError(
        f"checkpoint {self.folder(manifest.step)} cannot be read, though its files are "
        f"what was written: {type(error).__name__}: {error}"
      ) from error
    integrity.check_leaves(manifest, arrays)
    for name, x in wanted.items():
      if integrity.is_key(x):
        impl = integrity.stored_form(x)[2]
        arrays[name] = jax.random.wrap_key_data(arrays[name], impl=impl)
    return arrays

  def _restore(self, manifest: Manifest, abstract: TrainState) -> TrainState:
    wanted = integrity.named_leaves(abstract)
    self._check_fits(manifest, wanted)
    arrays = self.read(manifest, wanted)
    leaves = [arrays[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

  def _check_fits(self, manifest: Manifest, wanted: Mapping[str, Any]) -> None:
    """Raises CheckpointError if a state of another shape or plan is asked for."""
    lines = fits.misfits(manifest.leaves, wanted)
    plans = [about.get("plan", "") for about in (manifest.about, self.about)]
    if all(plans) and plans[0] != plans[1]:
      lines.append(f"packing plan of the data: {plans[0]} there, {plans[1]} here")
    made = [how for how in WITHOUT_STATE if manifest.about.get(how)]
    if lines and made and "step" in wanted:
      raise CheckpointError(
        f"{self.workdir} was {made[0]}: it holds weights and no state of training. "
        f"Train them in a directory of their own: --init-from={self.workdir}"
      )
    if lines:
      raise CheckpointError(
        f"checkpoint {self.folder(manifest.step)} is whole, but does not fit this "
        f"config or data:{fits.shown(lines)}\nUse what it was trained with, or "
        "--init-from to take a part of it"
      )
