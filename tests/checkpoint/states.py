"""A small state of every kind of leaf, and a run directory with two checkpoints."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from tests import small
from unijax.checkpoint import fits, integrity, rundir
from unijax.checkpoint.store import Store
from unijax.config import CheckpointConfig
from unijax.types import TrainState

SHAPES = {"a": (4, 8), "b": {"c": (5,)}}


def options(**knobs) -> CheckpointConfig:
  return dataclasses.replace(small.config().checkpoint, **knobs)


def state(seed: int) -> TrainState:
  """A small TrainState of random numbers."""
  keys = iter(jax.random.split(jax.random.key(seed), 8))
  tree = lambda: jax.tree.map(
    lambda s: jax.random.normal(next(keys), s),
    SHAPES,
    is_leaf=lambda x: type(x) is tuple,
  )
  optimizer = {
    "mu": tree(),
    "half": jnp.bfloat16(jnp.arange(16).reshape(2, 8) + seed),
    "seen": jnp.array([True, False, seed % 2 == 0]),
    "none": jnp.zeros((0, 3)),
    "key": jax.random.key(seed),
  }
  return TrainState(
    jnp.int32(seed), tree(), tree(), optimizer, jnp.array([1, seed], jnp.uint32)
  )


ABSTRACT = fits.abstract_state(lambda: state(0))


def equal(one, other) -> bool:
  """Same structure, shapes, dtypes and bits."""
  a, b = integrity.named_leaves(one), integrity.named_leaves(other)
  plain = lambda x: np.asarray(jax.random.key_data(x) if integrity.is_key(x) else x)
  return a.keys() == b.keys() and all(
    a[n].dtype == b[n].dtype
    and a[n].shape == b[n].shape
    and plain(a[n]).tobytes() == plain(b[n]).tobytes()
    for n in a
  )


def make_run(workdir: pathlib.Path, *steps: int) -> pathlib.Path:
  """A run directory with checkpoints of `state(step)`."""
  store = Store(workdir)
  for step in steps:
    store.save(state(step), step)
  store.wait()
  store.close()
  rundir.write_config(workdir, small.config(), {"versions": {"x": "1"}})
  return workdir


def files(folder: pathlib.Path) -> dict[str, bytes]:
  """Relative path -> content of every file below a directory."""
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }
