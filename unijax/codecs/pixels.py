"""Pixels as their own latents, and the cutting of latents into patches."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PixelCodec:
  """The identity codec: latents are RGB pixels scaled to [-1, 1]."""

  stride: int = 1
  channels: int = 3
  codebook: int = 0
  draws = True

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> float32 [..., h, w, 3] in [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1.0

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """float [..., h, w, 3] -> uint8 [..., h, w, 3], clipped to the range."""
    return np.clip(np.rint((np.asarray(latents) + 1.0) * 127.5), 0, 255).astype(
      np.uint8
    )


def patchify(latents: np.ndarray, patch_size: int) -> np.ndarray:
  """[..., h, w, c] -> [..., (h/p)(w/p), p*p*c], patches in raster order."""
  *lead, h, w, c = latents.shape
  p = patch_size
  x = latents.reshape(*lead, h // p, p, w // p, p, c)
  x = x.swapaxes(-4, -3)
  return x.reshape(*lead, (h // p) * (w // p), p * p * c)


def unpatchify(patches: np.ndarray, patch_size: int, grid: int) -> np.ndarray:
  """[..., grid*grid, p*p*c] -> [..., grid*p, grid*p, c], the inverse of patchify."""
  *lead, _, channels = patches.shape
  p = patch_size
  c = channels // (p * p)
  x = patches.reshape(*lead, grid, grid, p, p, c)
  x = x.swapaxes(-4, -3)
  return x.reshape(*lead, grid * p, grid * p, c)
