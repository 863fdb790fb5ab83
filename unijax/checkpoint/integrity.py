"""Whether a checkpoint is what was saved: a digest of every leaf, a hash of every file.

The digest of a leaf is computed on the device from the live state and is a sum over its
elements, so it needs no order and is the same on any mesh. A restored leaf is digested
again, on whatever mesh it landed. The hashes of the files are checked before anything
parses a file, so damaged bytes never reach a decoder. Both stand in the manifest, which
hashes itself.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unijax.checkpoint.errors import CheckpointError, Damage

MANIFEST = "manifest.json"
FORMAT = 1  # of the manifest and the layout of a step
UNSIGNED = {4: jnp.uint4, 8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint32}


def named_leaves(tree) -> dict[str, Any]:
  """Returns {dotted path: leaf}, such as 'params.text_head.kernel'.

  Raises:
    CheckpointError: two leaves have the same dotted path.
  """
  named = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    if name in named:
      raise CheckpointError(f"two leaves of the state are called {name}: rename one")
    named[name] = leaf
  return named


def is_key(leaf) -> bool:
  """Whether a leaf is an array of typed PRNG keys."""
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def stored_form(leaf) -> tuple[tuple[int, ...], str, str]:
  """(shape, dtype, PRNG) of the numbers that stand for a leaf or its abstract form.

  Typed keys are stored as their words, with the name of their PRNG; for all else
  that is ''.
  """
  if not is_key(leaf):
    return tuple(leaf.shape), str(leaf.dtype), ""
  prng = []

  def words(keys):
    prng.append(str(jax.random.key_impl(keys)))
    return jax.random.key_data(keys)

  data = jax.eval_shape(words, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
  return tuple(data.shape), str(data.dtype), prng[0]


@jax.jit
def digest(x: jax.Array) -> jax.Array:
  """Two 32-bit sums over the mixed bits and places of all elements.

  Within one element the mix is a bijection: one changed element always changes the
  first sum. Several are missed with probability 2^-64. Places are counted mod 2^32.

  Args:
    x: any numeric or boolean array, or typed PRNG keys; any sharding.

  Returns:
    uint32 [2].
  """
  words = _words(jax.random.key_data(x) if is_key(x) else x)
  place, stride = jnp.zeros(words.shape, jnp.uint32), 1
  for axis in reversed(range(words.ndim)):
    count = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place += count * jnp.uint32(stride % 2**32)
    stride *= words.shape[axis]
  first = _mix(words ^ _mix(place + jnp.uint32(0x9E3779B9)))
  second = _mix(first + jnp.uint32(0x7F4A7C15))
  # One reduction with two results: 12 times faster than two sums on XLA's CPU backend.
  zeros, axes = (jnp.uint32(0), jnp.uint32(0)), tuple(range(words.ndim))
  return jnp.stack(jax.lax.reduce((first, second), zeros, _add, axes))


def digests(leaves: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """Starts the digests of all leaves on their devices."""
  # Accelerators run programs in the order they are given. CPU devices share threads:
  # two programs that sum over devices could wait for each other for ever.
  one_by_one = jax.default_backend() == "cpu" and jax.device_count() > 1
  found = {}
  for name, x in leaves.items():
    found[name] = digest(x)
    if one_by_one:
      found[name].block_until_ready()
  return found


def _add(a, b):
  return a[0] + b[0], a[1] + b[1]


def _mix(x: jax.Array) -> jax.Array:
  """The finaliser of MurmurHash3: a bijection in which every bit stirs every other."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def _words(x: jax.Array) -> jax.Array:
  """The bits of every element as uint32, wider elements along one more axis."""
  if jnp.iscomplexobj(x):
    x = jnp.stack([x.real, x.imag], axis=-1)
  if jnp.issubdtype(x.dtype, jnp.floating):
    x = jax.lax.bitcast_convert_type(x, UNSIGNED[jnp.finfo(x.dtype).bits])
  elif x.dtype.itemsize == 8:
    x = jax.lax.bitcast_convert_type(x, jnp.uint32)
  return x.astype(jnp.uint32)  # of small integers: keeps what tells them apart


@dataclasses.dataclass(frozen=True)
class Leaf:
  """What the manifest says of a leaf; the first three as in `stored_form`."""

  shape: tuple[int, ...]
  dtype: str
  prng: str
  digest: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a checkpoint says about itself."""

  step: int
  time: float  # when it was saved, seconds since 1970
  leaves: Mapping[str, Leaf]
  files: Mapping[str, tuple[int, str]]  # path -> bytes, SHA-256
  about: Mapping[str, Any]  # hashes of config and plan, versions
  metrics: Mapping[str, float]  # measured on this state

  def stored(self, weights: str) -> dict[str, str]:
    """Name of each parameter -> name of its leaf.

    Args:
      weights: "ema", the averages, which are the parameters themselves where there are
        none, or "params".
    """
    found = {}
    for prefix in ("params.", *(["ema_params."] if weights == "ema" else [])):
      names = [name for name in self.leaves if name.startswith(prefix)]
      found |= {name.removeprefix(prefix): name for name in names}
    return found


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
  """Writes manifest.json, on disk when this returns."""
  body = {"format": FORMAT, **dataclasses.asdict(manifest)}
  text = json.dumps({"manifest": body, "sha256": _hash_json(body)}, indent=1)
  with (folder / MANIFEST).open("w") as file:
    file.write(text + "\n")
    file.flush()
    os.fsync(file.fileno())


def read_manifest(folder: pathlib.Path) -> Manifest:
  """Reads the manifest of a step directory.

  Raises:
    Damage: there is none, it is not what was written, or it is of another step.
    CheckpointError: it may not be read, or is of a newer unijax.
  """
  if (folder / "default").is_dir():
    raise CheckpointError(
      f"{folder} was written by a unijax before manifests: use that version to read it"
    )
  try:
    content = json.loads(_read(folder / MANIFEST))
    body = content["manifest"]
    if content["sha256"] != _hash_json(body):
      raise ValueError("it differs from its own hash")
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise Damage(f"file {MANIFEST} is not what was written: {error}") from error
  if body["format"] != FORMAT:
    raise CheckpointError(
      f"{folder} has format {body['format']}, this unijax reads {FORMAT}: use the "
      "version that wrote it"
    )
  body = {k: v for k, v in body.items() if k != "format"}
  body["leaves"] = {
    name: Leaf(tuple(x["shape"]), x["dtype"], x["prng"], tuple(x["digest"]))
    for name, x in body["leaves"].items()
  }
  body["files"] = {name: tuple(x) for name, x in body["files"].items()}
  manifest = Manifest(**body)
  if folder.name.isdigit() and manifest.step != int(folder.name):
    raise Damage(f"file {MANIFEST} is of step {manifest.step}")
  return manifest


def hash_files(folder: pathlib.Path) -> dict[str, tuple[int, str]]:
  """Returns {relative path: (bytes, SHA-256)} of every file below a directory."""
  return {
    str(path.relative_to(folder)): (path.stat().st_size, _hash_file(path))
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != MANIFEST
  }


def check_files(folder: pathlib.Path) -> Manifest:
  """Reads the manifest and compares every file with it.

  Raises:
    Damage: naming the file.
    CheckpointError: a file may not be read.
  """
  manifest = read_manifest(folder)
  for name, (size, hashed) in manifest.files.items():
    path = folder / name
    try:
      found = path.stat().st_size
      if found != size:
        raise Damage(f"file {name} has {found} bytes instead of {size}")
      if _hash_file(path) != hashed:
        raise Damage(f"file {name} differs from its hash")
    except OSError as error:
      raise _unreadable(path, name, error) from error
  return manifest


def check_leaves(manifest: Manifest, leaves: Mapping[str, jax.Array]) -> None:
  """Digests leaves where they are and compares them with the manifest.

  Raises:
    Damage: naming the first leaf that differs.
  """
  found = jax.device_get(digests(leaves))
  for name, value in found.items():
    if tuple(int(v) for v in value) != manifest.leaves[name].digest:
      raise Damage(f"leaf {name} differs from its digest")


def _read(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise _unreadable(path, path.name, error) from error


def _unreadable(path: pathlib.Path, name: str, error: OSError) -> Exception:
  """Damage, unless it is only that this user may not look."""
  if isinstance(error, PermissionError):
    return CheckpointError(f"{path} may not be read: {error.strerror}")
  if isinstance(error, FileNotFoundError | NotADirectoryError):
    return Damage(f"file {name} is missing")
  return Damage(f"file {name} cannot be read: {error.strerror}")


def _hash_file(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_json(value) -> str:
  text = json.dumps(value, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()
