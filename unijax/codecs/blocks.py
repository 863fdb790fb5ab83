"""A codec without parameters: each block of pixels becomes its mean colour.

As latents the colours are continuous; as codes they lie on a uniform grid of the colour
cube. It is the baseline that a trained codec must beat, and it lets every discrete
configuration train before any codec is trained.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class BlockCodec:
  """Mean colours of `stride` x `stride` blocks; codes on a grid of levels^3 colours."""

  stride: int = 4
  channels: int = 3
  levels: int = 6  # of each colour: 0, 51, ... 255
  draws = True

  @property
  def codebook(self) -> int:
    """Number of codes."""
    return self.levels**3

  def encode(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> float32 [..., h/stride, w/stride, 3] in [-1, 1]."""
    return (self._means(pixels) / 127.5 - 1.0).astype(np.float32)

  def decode(self, latents: np.ndarray) -> np.ndarray:
    """float [..., h, w, 3] -> uint8 [..., h*stride, w*stride, 3], clipped."""
    colours = np.clip(np.rint((np.asarray(latents) + 1.0) * 127.5), 0, 255)
    return self._enlarge(colours.astype(np.uint8))

  def codes(self, pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., h, w, 3] -> int32 [..., h/stride, w/stride]: the nearest colours."""
    level = np.rint(self._means(pixels) * ((self.levels - 1) / 255.0)).astype(np.int32)
    red, green, blue = np.moveaxis(level, -1, 0)
    return (red * self.levels + green) * self.levels + blue

  def from_codes(self, codes: np.ndarray) -> np.ndarray:
    """int32 [..., h, w] -> uint8 [..., h*stride, w*stride, 3].

    Raises:
      ValueError: a code outside of the codebook.
    """
    codes = checked(codes, self.codebook)
    n = self.levels
    level = np.stack([codes // n**2, codes // n % n, codes % n], axis=-1)
    return self._enlarge((level * 255 // (n - 1)).astype(np.uint8))

  def _means(self, pixels: np.ndarray) -> np.ndarray:
    """float64 [..., h/stride, w/stride, 3] in [0, 255]."""
    *lead, h, w, c = pixels.shape
    s = self.stride
    return pixels.reshape(*lead, h // s, s, w // s, s, c).mean(axis=(-4, -2))

  def _enlarge(self, colours: np.ndarray) -> np.ndarray:
    return colours.repeat(self.stride, axis=-3).repeat(self.stride, axis=-2)


def checked(codes: np.ndarray, codebook: int) -> np.ndarray:
  """Returns codes as an array; raises ValueError for one outside of the codebook."""
  codes = np.asarray(codes)
  if codes.size and not 0 <= codes.min() <= codes.max() < codebook:
    raise ValueError(
      f"codes from {codes.min()} to {codes.max()}, but the codebook has {codebook}"
    )
  return codes
