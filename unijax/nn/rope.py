"""Rotary positions (Su et al. 2021), of one axis or several.

A position is three numbers (time, height, width). One-dimensional schemes turn
all frequencies by the first; `grid` turns half of them by height and half by
width, or with sections some by each of the three (Wang et al. 2024, section 2.1), which
for text (all three equal) is again the one-dimensional scheme.
"""

import jax
import jax.numpy as jnp
import numpy as np

AXES = {"sequential": (0,), "shared": (0,), "grid": (1, 2)}


def frequencies(width: int, theta: float, stretch=(1.0,)) -> jax.Array:
  """Returns radians a position of every pair of `width` turned numbers: [width/2].

  Args:
    width: of a head, or of the part of it that is turned.
    theta: the slowest pair turns by about 1 / theta.
    stretch: (factor, low, high, length): to reach positions beyond the `length` that a
      model was trained on, wavelengths longer than length / low are stretched by
      `factor`, those shorter than length / high are kept, and frequencies between are
      blended (Grattafiori et al. 2024, section 3.4.2, as released). A length of 0
      stretches all (Chen et al. 2023). A factor of 1 changes nothing.
  """
  pairs = width // 2
  kept = theta ** (-jnp.arange(pairs, dtype=jnp.float32) / pairs)
  if stretch[0] == 1:
    return kept
  factor, low, high, length = stretch
  turns = length * kept / (2 * jnp.pi)  # of a pair over the length
  share = jnp.clip((turns - low) / (high - low), 0, 1)  # that is kept
  return kept * share + kept / factor * (1 - share)


def angles(
  position_BTA, width: int, theta: float, scheme: str, stretch=(1.0,), sections=()
) -> jax.Array:
  """Returns float32 angles [B, T, width/2] for a position scheme of the config.

  With `sections` these many frequencies turn by time, height and width, the fastest by
  time; without, the axes of the scheme take turns, so that each has fast and slow ones.
  """
  pairs = width // 2
  axes = AXES[scheme]
  if sections:
    axis = jnp.repeat(jnp.arange(3), np.array(sections), total_repeat_length=pairs)
  else:
    axis = jnp.asarray(axes)[jnp.arange(pairs) % len(axes)]
  position = jnp.take(position_BTA, axis, axis=-1).astype(jnp.float32)
  return position * frequencies(width, theta, stretch)


def rotation(
  position_BTA, width: int, theta: float, scheme: str, stretch=(1.0,), sections=()
):
  """Returns (sin, cos) of `angles`, each [B, T, 1, width/2], for `rotate`."""
  angle = angles(position_BTA, width, theta, scheme, stretch, sections)[:, :, None]
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BTHK: jax.Array, sin_cos) -> jax.Array:
  """Turns pairs (k, k + W/2) of the first W numbers of every head; keeps the dtype.

  A `rotation` has W/2 angles; what stands after the first W is left as it is.
  """
  sin, cos = sin_cos
  width = 2 * sin.shape[-1]
  turned, kept = x_BTHK[..., :width], x_BTHK[..., width:]
  a, b = jnp.split(turned.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  turned = turned.astype(x_BTHK.dtype)
  return jnp.concatenate([turned, kept], axis=-1) if kept.shape[-1] else turned
