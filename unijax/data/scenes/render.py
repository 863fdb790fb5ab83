"""Scene -> uint8 pixels, by pasting cached anti-aliased sprites.

Sprites exist for every shape, size and quarter-pixel offset; the reader in `verify`
matches against the same masks. Colours never exceed the ground in any channel, so
pasting is a minimum: independent of order, and right where sprite borders overlap.
"""

import functools

import numpy as np

from unijax.data.scenes import world

SUBPIXEL = 4  # positions are rounded to 1/4 pixel
_SAMPLES = 8  # supersampling a side, per pixel: alpha in steps of 1/64


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Whether points in units of the radius, u right and v down, lie in the shape."""
  if shape == "circle":
    return u * u + v * v <= 1.0
  if shape == "square":
    return np.maximum(abs(u), abs(v)) <= 0.86
  if shape == "triangle":
    return (v <= 0.8) & (abs(u) <= 0.97 * (v + 1.0) / 1.8)
  if shape == "cross":
    return (np.minimum(abs(u), abs(v)) <= 0.34) & (np.maximum(abs(u), abs(v)) <= 1.0)
  raise ValueError(f"unknown shape {shape!r}; known: {', '.join(world.SHAPES)}")


@functools.lru_cache(maxsize=4096)
def mask(shape: str, radius: float, sub_x: int, sub_y: int) -> np.ndarray:
  """Coverage of one thing: float32 [n, n] in [0, 1], n odd.

  Args:
    shape: one of `world.SHAPES`.
    radius: in pixels.
    sub_x, sub_y: offset of the centre from the centre of the middle pixel, in quarter
      pixels, -2 to 1.
  """
  half = int(np.ceil(radius + 0.5))
  n = 2 * half + 1
  steps = (np.arange(n * _SAMPLES) + 0.5) / _SAMPLES - 0.5 - half
  u = (steps - sub_x / SUBPIXEL)[None, :] / radius
  v = (steps - sub_y / SUBPIXEL)[:, None] / radius
  hit = _inside(shape, u, v).reshape(n, _SAMPLES, n, _SAMPLES)
  out = hit.mean((1, 3), dtype=np.float32)
  out.setflags(write=False)
  return out


@functools.lru_cache(maxsize=16384)
def _sprite(shape: str, colour: str, radius: float, sub_x: int, sub_y: int):
  """The same thing in its colour on the ground: uint8 [n, n, 3]."""
  alpha = mask(shape, radius, sub_x, sub_y)[..., None]
  ground = np.array(world.BACKGROUND, np.float32)
  paint = np.array(world.PALETTE[colour], np.float32)
  out = np.rint(ground + alpha * (paint - ground)).astype(np.uint8)
  out.setflags(write=False)
  return out


def split_position(value: float, image_size: int) -> tuple[int, int]:
  """Share of the picture -> (pixel, quarter-pixel offset -2..1 from its centre)."""
  quarters = int(np.floor((value * image_size - 0.5) * SUBPIXEL + 0.5))
  pixel = (quarters + SUBPIXEL // 2) // SUBPIXEL
  return pixel, quarters - SUBPIXEL * pixel


def render(scene: world.Scene, image_size: int) -> np.ndarray:
  """Draws a scene: uint8 [image_size, image_size, 3]."""
  out = np.full((image_size, image_size, 3), world.BACKGROUND[0], np.uint8)
  for thing in scene.things:
    px, sub_x = split_position(thing.x, image_size)
    py, sub_y = split_position(thing.y, image_size)
    r = world.radius(thing.size, scene.grid) * image_size
    sprite = _sprite(thing.shape, thing.colour, r, sub_x, sub_y)
    half = sprite.shape[0] // 2
    top, left = max(py - half, 0), max(px - half, 0)
    target = out[top : py + half + 1, left : px + half + 1]
    y0, x0 = top - (py - half), left - (px - half)
    part = sprite[y0 : y0 + target.shape[0], x0 : x0 + target.shape[1]]
    np.minimum(target, part, out=target)
  return out
