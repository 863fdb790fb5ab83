"""Conditions that encoders elsewhere have said, from a file, to draw from.

A file .safetensors has, for N pictures,
  vectors   [N, S, E]  what the words say; E is dit.condition_width
  pooled    [N, W]     one vector of the whole; W is dit.pooled_width, if that is not 0
  length    [N]        how many of the S are of it; all, if it is not there
and, for guidance, the same of what it contrasts with: `negative_vectors`,
`negative_pooled` and `negative_length`, of N pictures, or of one for all.
"""

import pathlib

import numpy as np

from unijax.checkpoint import safetensors
from unijax.config import DitConfig
from unijax.data.document import DataError
from unijax.nn.dit_blocks import Condition

NEGATIVE = "negative_"
NAMES = ("vectors", "pooled", "length")


def read(
  path: str | pathlib.Path, c: DitConfig
) -> tuple[list[Condition], list[Condition]]:
  """Reads a file of conditions.

  Args:
    path: of the file.
    c: of the transformer that is told them.

  Returns:
    (one condition of one row for each picture, what guidance contrasts each with; empty
    where the file does not say).

  Raises:
    DataError: an array is missing, unknown or of another shape; naming it.
    CheckpointError: the file is damaged.
  """
  if not pathlib.Path(path).is_file():
    raise DataError(f"--conditions: {path} is no file")
  arrays = safetensors.read(pathlib.Path(path))
  unknown = sorted(set(arrays) - {*NAMES, *(NEGATIVE + n for n in NAMES)})
  if unknown:
    raise DataError(
      f"{path}: unknown arrays {', '.join(unknown)}; a file of conditions has{_about()}"
    )
  told = _rows(path, arrays, "", c)
  if NEGATIVE + "vectors" not in arrays:
    return told, []
  against = _rows(path, arrays, NEGATIVE, c)
  if len(against) not in (1, len(told)):
    raise DataError(
      f"{path}: {NEGATIVE}vectors are of {len(against)} pictures, vectors of "
      f"{len(told)}: as many, or one for all"
    )
  return told, against * (len(told) // len(against))


def _rows(path, arrays, prefix: str, c: DitConfig) -> list[Condition]:
  """The conditions of names with a prefix."""
  N, S = _shape(path, arrays, f"{prefix}vectors", (None, None, c.condition_width))[:2]
  vectors = np.asarray(arrays[f"{prefix}vectors"], np.float32)
  pooled, length = None, np.full(N, S, np.int32)
  if c.pooled_width:
    _shape(path, arrays, f"{prefix}pooled", (N, c.pooled_width))
    pooled = np.asarray(arrays[f"{prefix}pooled"], np.float32)
  if f"{prefix}length" in arrays:
    _shape(path, arrays, f"{prefix}length", (N,))
    length = np.asarray(arrays[f"{prefix}length"], np.int32)
    if length.min() < 0 or length.max() > S:
      raise DataError(f"{path}: {prefix}length must be in 0 .. {S}, of {S} vectors")
  return [
    Condition(vectors[i : i + 1], length[i : i + 1], _part(pooled, i)) for i in range(N)
  ]


def _part(pooled, i: int):
  return None if pooled is None else pooled[i : i + 1]


def _shape(path, arrays, name: str, wanted) -> tuple[int, ...]:
  """The shape of an array, which is the wanted one; None is any size but 0."""
  if name not in arrays:
    raise DataError(f"{path}: no array {name!r}; a file of conditions has{_about()}")
  shape = arrays[name].shape
  same = len(shape) == len(wanted) and all(
    n == w or (w is None and n) for n, w in zip(shape, wanted, strict=True)
  )
  if not same:
    sizes = ", ".join("any" if w is None else str(w) for w in wanted)
    raise DataError(f"{path}: {name} is {list(shape)}, and this run wants [{sizes}]")
  return shape


def _about() -> str:
  return __doc__.partition("\n\n")[2].partition(" has")[2].rstrip()


def stacked(told: list[Condition]) -> Condition:
  """Rows of several conditions as one, padded to the longest."""
  longest = max(x.vectors_BSE.shape[1] for x in told)

  def long(x):
    return np.pad(x, ((0, 0), (0, longest - x.shape[1]), (0, 0)))

  pooled = [x.pooled_BE for x in told]
  return Condition(
    np.concatenate([long(np.asarray(x.vectors_BSE)) for x in told]),
    np.concatenate([x.length_B for x in told]),
    None if pooled[0] is None else np.concatenate(pooled),
  )
