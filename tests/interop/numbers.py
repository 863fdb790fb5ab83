"""Weights and inputs that both sides of a comparison make by themselves.

A weight is a function of its name in the file, its shape and a scale; nothing else is
shared between our code and the reference, and nothing but expected outputs is kept.
Norm scales, biases and whatever a library initialises with zeros or ones are random.

loud   products keep the size of what enters them or enlarge it, so that activations,
       rotary angles and masks matter
quiet  activations are about 0.01, so that the epsilons of norms matter
"""

import hashlib
import math

import numpy as np

GAIN = {"loud": 1.5, "quiet": 0.01}
BIAS = {"loud": 0.2, "quiet": 0.002}
SPREAD = 0.3  # of scales of norms, around 1


def generator(*words: str) -> np.random.Generator:
  digest = hashlib.sha256("\0".join(words).encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def weight(name: str, shape: tuple[int, ...], scale: str) -> np.ndarray:
  """float32 of this shape.

  Names with `bias` are biases, other arrays of one axis are scales around 1, as are
  those of norms with a scale each head, or with axes of one element behind; the rest
  are matrices, whose first axis is what comes out.
  """
  x = generator(name, scale).standard_normal(shape)
  if "bias" in name.rpartition(".")[2]:
    x *= BIAS[scale]
  elif len(shape) < 2 or name.endswith(("_norm.weight", ".gamma")):
    x = 1.0 + SPREAD * x
  else:
    x *= GAIN[scale] / math.sqrt(math.prod(shape[1:]))
  return np.asarray(x, np.float32)  # an array also where there are no axes


def picture(name: str, *shape: int) -> np.ndarray:
  """float32 in [-1, 1]."""
  return generator(name).uniform(-1.0, 1.0, shape).astype(np.float32)


def normal(name: str, *shape: int) -> np.ndarray:
  """float32 of variance 1."""
  return generator(name).standard_normal(shape).astype(np.float32)


def whole(name: str, below: int, *shape: int) -> np.ndarray:
  """int32 in [0, below)."""
  return generator(name).integers(0, below, shape).astype(np.int32)
