"""Stable hashes: splits, per-document choices and signatures, equal on every machine.

Python's own `hash` differs between processes; everything here goes through BLAKE2b,
so a choice depends on its keys alone and never on the order of access.
"""

import hashlib
import json
import operator
from collections.abc import Mapping


def stable_hash(value: object, digits: int = 16) -> str:
  """Returns the first `digits` hex digits of the hash of a JSON-like value.

  NumPy integers count as integers. Raises TypeError for what JSON cannot write.
  """
  text = json.dumps(
    value, sort_keys=True, separators=(",", ":"), default=operator.index
  )
  return hashlib.blake2b(text.encode("ascii"), digest_size=32).hexdigest()[:digits]


def uniform(*keys: int | str) -> float:
  """Returns a number in [0, 1) with 53 random bits, decided by `keys` alone."""
  return (int(stable_hash(keys), 16) >> 11) * 2.0**-53


def integer(below: int, *keys: int | str) -> int:
  """Returns an integer in [0, below), decided by `keys` alone."""
  return int(uniform(*keys) * below)


def choice(weights: Mapping[str, float], *keys: int | str) -> str:
  """Returns a name with probability in proportion to its weight, by `keys` alone."""
  total = sum(weights.values())
  point = uniform(*keys) * total
  for name, weight in weights.items():
    point -= weight
    if point < 0:
      return name
  return [name for name, weight in weights.items() if weight > 0][-1]
