"""How well a codec gives pictures back: PSNR, SSIM, use of codes, kid_lite."""

import dataclasses

import numpy as np
from scipy import ndimage

from unijax.codecs.frozen import Weighted
from unijax.evals.kid import KidLite, kid_lite
from unijax.evals.scene_scores import bootstrap

SSIM_SIGMA, SSIM_RADIUS = 1.5, 5  # a Gaussian window of 11 pixels
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Peak signal-to-noise ratio in dB of pairs of uint8 [n, h, w, 3]; at most 100."""
  error = (one.astype(np.float64) - other) ** 2
  return 10.0 * np.log10(255.0**2 / np.maximum(error.mean(axis=(1, 2, 3)), 6.5e-6))


def ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Structural similarity of each pair of uint8 [n, h, w, 3], a mean over colours.

  Wang et al. 2004, eq. 13, with their window and constants.
  """
  x, y = one.astype(np.float64), other.astype(np.float64)
  c1, c2 = (SSIM_K1 * 255) ** 2, (SSIM_K2 * 255) ** 2

  def blur(values):
    for axis in (1, 2):
      values = ndimage.gaussian_filter1d(
        values, SSIM_SIGMA, axis=axis, radius=SSIM_RADIUS
      )
    return values

  mean_x, mean_y = blur(x), blur(y)
  var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
  cov = blur(x * y) - mean_x * mean_y
  value = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
  value /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return value.mean(axis=(1, 2, 3))


@dataclasses.dataclass(frozen=True)
class Reconstructions:
  """Pictures and what a codec made of them.

  Attributes:
    originals, decoded: uint8 [n, h, w, 3].
    used: of each codebook, the share of its codes that some place has; () without.
    perplexity: of each codebook, exp of the entropy of its codes.
    latent_std: of the latents as others get them, after shift and scale.
    kid: between originals and reconstructions; None for less than four pictures.
  """

  originals: np.ndarray
  decoded: np.ndarray
  used: tuple[float, ...]
  perplexity: tuple[float, ...]
  latent_std: float
  kid: KidLite | None

  def figures(self) -> dict[str, float]:
    """All figures as plain values; of several codebooks the mean."""
    found = {
      "psnr": float(psnr(self.originals, self.decoded).mean()),
      "ssim": float(ssim(self.originals, self.decoded).mean()),
      "latent_std": self.latent_std,
    }
    if self.used:
      found["codes_used"] = float(np.mean(self.used))
      found["perplexity"] = float(np.mean(self.perplexity))
    if self.kid:
      found["kid_lite"] = self.kid.value
    return found

  def picture(self, count: int) -> np.ndarray:
    """The first pictures above their reconstructions, uint8 [2h, n w, 3]."""
    rows = (
      np.concatenate(list(x[:count]), axis=1) for x in (self.originals, self.decoded)
    )
    return np.concatenate(list(rows), axis=0)


def intervals(result: Reconstructions) -> dict[str, tuple[float, float, float]]:
  """(value, low, high), 95 %, of what is a mean over pictures, and of KID."""
  pair = (result.originals, result.decoded)
  found = {"psnr": bootstrap(psnr(*pair)), "ssim": bootstrap(ssim(*pair))}
  if result.kid:
    found["kid_lite"] = (result.kid.value, result.kid.low, result.kid.high)
  return found


def measure(codec: Weighted, pixels: np.ndarray, kid: bool = True) -> Reconstructions:
  """Encodes and decodes pictures and measures what came back.

  Args:
    codec: to measure.
    pixels: uint8 [n, h, w, 3].
    kid: also compare the two sets of pictures.
  """
  latents = codec.encode(pixels)
  decoded, used, perplexity = codec.decode(latents), [], []
  for book, codes in codec.digits(pixels):
    counts = np.bincount(codes.reshape(-1), minlength=book)
    share = counts[counts > 0] / counts.sum()
    used.append(float((counts > 0).mean()))
    perplexity.append(float(np.exp(-(share * np.log(share)).sum())))
  compared = kid_lite(pixels, decoded) if kid and len(pixels) >= 4 else None
  return Reconstructions(
    pixels, decoded, tuple(used), tuple(perplexity), float(latents.std()), compared
  )
