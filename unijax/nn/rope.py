"""Rotary positions (Su et al. 2021), one axis or two.

A position is three numbers (time, height, width). One-dimensional schemes turn
all frequencies by the first; `grid` turns half of them by height and half by
width, which for text (all three equal) is again the one-dimensional scheme.
"""

import jax
import jax.numpy as jnp

AXES = {"sequential": (0,), "shared": (0,), "grid": (1, 2)}


def angles(position_BTA, head_dim: int, theta: float, scheme: str) -> jax.Array:
  """Returns float32 angles [B, T, head_dim/2] for a position scheme of the config."""
  half = head_dim // 2
  frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  axes = AXES[scheme]
  # Interleave the axes over the frequencies, so that each gets fast and slow ones.
  axis = jnp.asarray(axes)[jnp.arange(half) % len(axes)]
  position = jnp.take(position_BTA, axis, axis=-1).astype(jnp.float32)
  return position * frequencies


def rotation(position_BTA, head_dim: int, theta: float, scheme: str):
  """Returns (sin, cos) of `angles`, each [B, T, 1, head_dim/2], for `rotate`."""
  angle = angles(position_BTA, head_dim, theta, scheme)[:, :, None]
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BTHK: jax.Array, sin_cos) -> jax.Array:
  """Turns pairs (k, k + K/2) of every head by a `rotation`; keeps the dtype."""
  sin, cos = sin_cos
  a, b = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(
    x_BTHK.dtype
  )
