"""Pixels -> found things: the exact reader that all scene scores rest on.

Reading is drawing backwards. Every pixel is taken as a blend of the ground with each
palette colour; connected cores of one colour become candidates; each candidate is
compared with the renderer's own masks of all shapes and sizes at its place (sharp, and
in `soft` mode also blurred). What fits no mask, or is of no palette colour, is reported
as a thing of shape or colour "unknown": it is part of the picture and makes every
comparison fail, so noise cannot pass for a scene.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unijax.data.scenes import render, world

UNKNOWN = "unknown"


class Found(NamedTuple):
  """A thing read from pixels; fields as `world.Thing`.

  `confidence` is the overlap of its pixels with the best mask (soft intersection over
  union, 0 to 1).
  """

  shape: str
  colour: str
  size: str
  x: float
  y: float
  confidence: float


class _Mode(NamedTuple):
  blurs: tuple[float, ...]  # of the masks compared with, in pixels
  overlap: float  # least overlap with a mask
  off_colour: float  # furthest mean colour from the palette, Euclidean RGB
  speck: float  # candidates below this share of a small thing's area are specks
  stray: float  # all specks together may cover this share of a small thing's area


MODES = {
  "clean": _Mode((0.0,), 0.80, 25.0, 0.10, 0.10),
  "soft": _Mode((0.0, 0.8), 0.68, 60.0, 0.30, 0.60),
}
_CROSS_AREA = 2.26  # of radius squared; the triangle has 1.75, circle and square 3
_CORE = 0.5  # coverage from which a pixel belongs to a core
_STRAY_DISTANCE = 75.0  # from the ground, Euclidean RGB, beyond noise of sigma 16
_GROUND = np.array(world.BACKGROUND, np.float32)
_PAINT = np.array(list(world.PALETTE.values()), np.float32)
_RAY = _PAINT - _GROUND  # [8, 3]
_RAY_UNIT = _RAY / (_RAY**2).sum(1, keepdims=True)
_RAY_SQUARE = (_RAY**2).sum(1)


@functools.lru_cache(maxsize=8192)
def _mask(shape: str, radius: float, sub_x: int, sub_y: int, blur: float):
  """(mask with a border of two pixels, its centre of mass from its middle (x, y))."""
  alpha = np.pad(render.mask(shape, radius, sub_x, sub_y), 2)
  if blur:
    alpha = ndimage.gaussian_filter(alpha, blur)
  steps = np.arange(len(alpha)) - len(alpha) // 2
  total = alpha.sum()
  centre = (steps @ alpha.sum(0) / total, steps @ alpha.sum(1) / total)
  alpha.setflags(write=False)
  return alpha, centre


def _window(alpha: np.ndarray, px: int, py: int, half: int) -> np.ndarray:
  """The square of half width `half` about (px, py), zero outside the picture."""
  height, width = alpha.shape
  out = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
  top, left = max(py - half, 0), max(px - half, 0)
  part = alpha[top : max(py + half + 1, 0), left : max(px + half + 1, 0)]
  y0, x0 = top - (py - half), left - (px - half)
  out[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
  return out


def _fit(alpha: np.ndarray, grid: int, mode: _Mode):
  """Best mask for a coverage map of one candidate.

  Args:
    alpha: float32 [size, size], coverage by its colour, zero away from it.

  Returns:
    (overlap, shape, size, x, y, (mask, px, py)), the position in shares.
  """
  image_size = alpha.shape[0]
  steps = np.arange(image_size)
  total = alpha.sum()
  mass_x, mass_y = steps @ alpha.sum(0) / total, steps @ alpha.sum(1) / total
  best = (-1.0,)
  for size in world.SIZES:
    r = world.radius(size, grid) * image_size
    for shape in world.SHAPES:
      shift_x, shift_y = _mask(shape, r, 0, 0, 0.0)[1]
      x = (mass_x - shift_x + 0.5) / image_size
      y = (mass_y - shift_y + 0.5) / image_size
      px, sub_x = render.split_position(x, image_size)
      py, sub_y = render.split_position(y, image_size)
      for blur in mode.blurs:
        mask = _mask(shape, r, sub_x, sub_y, blur)[0]
        seen = _window(alpha, px, py, mask.shape[0] // 2)
        both = np.minimum(seen, mask).sum()
        overlap = both / (total + mask.sum() - both)
        if overlap > best[0]:
          best = (float(overlap), shape, size, float(x), float(y), (mask, px, py))
  return best


def _colour(pixels: np.ndarray, fit, off_colour: float) -> str:
  """Nearest palette colour to the mean of the pixels well inside a fitted mask."""
  mask, px, py = fit
  half = mask.shape[0] // 2
  height, width = pixels.shape[:2]
  ys, xs = np.nonzero(mask > 0.9 * mask.max())
  ys, xs = ys + py - half, xs + px - half
  keep = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
  if not keep.any():
    return UNKNOWN
  mean = pixels[ys[keep], xs[keep]].mean(0)
  distance = np.sqrt(((_PAINT - mean) ** 2).sum(1))
  nearest = int(distance.argmin())
  return world.COLOURS[nearest] if distance[nearest] <= off_colour else UNKNOWN


def read_scene(pixels: np.ndarray, *, grid: int = 0, mode: str = "clean"):
  """Finds the things in a picture.

  Args:
    pixels: uint8 [size, size, 3].
    grid: placement of the data set; it decides the radii of small and large.
    mode: "clean" for renders; "soft" for samples of a model: it forgives blur, noise,
      colours somewhat off and a few specks.

  Returns:
    list of `Found`, by position from top to bottom; pass it wherever a scene is
    expected. Anything that is no known thing is there with shape or colour "unknown".

  Raises:
    ValueError: for other arrays or an unknown mode.
  """
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
    raise ValueError(
      f"expected uint8 [size, size, 3], got {pixels.dtype} {pixels.shape}"
    )
  if pixels.shape[0] != pixels.shape[1]:
    raise ValueError(f"expected a square picture, got {pixels.shape}")
  if mode not in MODES:
    raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
  settings, size = MODES[mode], pixels.shape[0]
  values = pixels.astype(np.float32)
  diff = values - _GROUND
  coverage = diff @ _RAY_UNIT.T  # [size, size, 8]
  square = (diff**2).sum(-1)
  clipped = np.clip(coverage, 0.0, 1.0)
  # |diff - a ray|^2 = |diff|^2 - 2 a <diff, ray> + a^2 |ray|^2, least over colours.
  residual = (clipped**2 - 2 * clipped * coverage) * _RAY_SQUARE
  label = residual.argmin(-1)
  core = np.take_along_axis(coverage, label[..., None], -1)[..., 0] >= _CORE
  smallest = _CROSS_AREA * (world.radius("small", grid) * size) ** 2
  found, free = [], square > _STRAY_DISTANCE**2
  for colour in np.unique(label[core]):
    parts, n = ndimage.label(core & (label == colour))
    if not n:
      continue
    areas = np.bincount(parts.ravel(), minlength=n + 1)
    for k, box in enumerate(ndimage.find_objects(parts), start=1):
      if areas[k] < settings.speck * smallest:
        continue
      grown = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
      alpha = np.zeros((size, size), np.float32)
      alpha[grown] = clipped[grown][..., colour]
      free[grown] = False
      overlap, shape, thing_size, x, y, fit = _fit(alpha, grid, settings)
      name = _colour(values, fit, settings.off_colour)
      if overlap < settings.overlap:
        shape = UNKNOWN
      found.append(Found(shape, name, thing_size, x, y, overlap))
  if free.sum() > settings.stray * smallest:
    ys, xs = np.nonzero(free)
    x, y = (float(v.mean() + 0.5) / size for v in (xs, ys))
    found.append(Found(UNKNOWN, UNKNOWN, UNKNOWN, x, y, 0.0))
  return sorted(found, key=lambda thing: (thing.y, thing.x))
