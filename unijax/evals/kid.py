"""kid_lite: a distance between two sets of pictures, unbiased in their number.

The Kernel Inception Distance (Binkowski et al. 2018, arXiv 1801.01401, section 4) is
the squared maximum mean discrepancy with the kernel k(a, b) = (a.b / d + 1)^3,

  MMD^2 =   sum_{i != j} k(x_i, x_j) / (m (m - 1))
          + sum_{i != j} k(y_i, y_j) / (n (n - 1))
          - 2 sum_{i, j} k(x_i, y_j) / (m n),

an unbiased estimate (Gretton et al. 2012, lemma 6): for two samples of one
distribution its mean is 0 and single values fall on both sides. FID, in contrast, is
large for small samples of equal distributions.

**`kid_lite` is a proxy.** It takes EfficientNet-Lite0 features, not Inception ones, at
the pictures' own size, and scales each feature vector to length sqrt(d), which makes
the kernel (cos + 1)^3 and keeps scores alike across picture sizes. Its values are not
comparable to published KID.
"""

import dataclasses

import numpy as np

from unijax.codecs.features import features


@dataclasses.dataclass(frozen=True)
class KidLite:
  """The distance between two sets of pictures, with how sure it is.

  Attributes:
    value: unbiased MMD^2; 0 is expected for equal distributions, it may be negative.
    low: lower end of the 95 % interval, `value` - 1.96 `standard_error`.
    high: upper end of it.
    standard_error: spread of the estimate over random halves of both sets.
    null_error: standard deviation of the estimate if both sets were one distribution,
      from random relabellings of the pooled pictures.
    p_value: how often a relabelling was at least as far apart as the true labels.
    counts: number of pictures in each set.
  """

  value: float
  low: float
  high: float
  standard_error: float
  null_error: float
  p_value: float
  counts: tuple[int, int]


def kid_lite(
  reference: np.ndarray, generated: np.ndarray, *, splits: int = 200, seed: int = 0
) -> KidLite:
  """Returns the kid_lite distance between two sets of pictures.

  Args:
    reference: uint8 [m, height, width, 3], real pictures; m >= 4.
    generated: uint8 [n, height, width, 3], of the same height and width; n >= 4.
    splits: random halves and random relabellings drawn for the errors.
    seed: decides those draws and nothing else.

  Raises:
    ValueError: sizes differ, or a set is too small.
  """
  if reference.shape[1:] != generated.shape[1:]:
    raise ValueError(
      "kid_lite: both sets need one size, since features depend on it; got "
      f"{list(reference.shape)} and {list(generated.shape)}. Resize one of them."
    )
  return kid_of_features(
    features(reference), features(generated), splits=splits, seed=seed
  )


def kid_of_features(
  x_MF: np.ndarray, y_NF: np.ndarray, *, splits: int = 200, seed: int = 0
) -> KidLite:
  """Returns `kid_lite` from features [m, f] and [n, f]; see there.

  The standard error is the standard deviation over random halves of both sets: for a
  delete-d jackknife with d half of the sample (Shao & Wu 1989) the factor
  (n - d) / d is 1. It is on the safe side where the distributions are equal.
  """
  m, n = len(x_MF), len(y_NF)
  if min(m, n) < 4:
    raise ValueError(f"kid_lite: each set needs at least 4 pictures, got {m} and {n}")
  kernel = _kernel(np.concatenate([x_MF, y_NF]))
  rng = np.random.default_rng(seed)

  order = np.broadcast_to(np.arange(m + n), (splits, m + n))
  mixed = rng.permuted(order, axis=1)
  null = _mmd2(kernel, *_members(mixed[:, :m], mixed[:, m:], m + n))
  halves_x = rng.permuted(order[:, :m], axis=1)[:, : m // 2]
  halves_y = m + rng.permuted(order[:, :n], axis=1)[:, : n // 2]
  halves = _mmd2(kernel, *_members(halves_x, halves_y, m + n))
  value = float(_mmd2(kernel, *_members(order[:1, :m], order[:1, m:], m + n))[0])

  error = float(halves.std(ddof=1))
  return KidLite(
    value=value,
    low=value - 1.96 * error,
    high=value + 1.96 * error,
    standard_error=error,
    null_error=float(null.std(ddof=1)),
    p_value=float((1 + (null >= value).sum()) / (1 + splits)),
    counts=(m, n),
  )


def _kernel(features_NF: np.ndarray) -> np.ndarray:
  """Returns (cos + 1)^3 of every pair, float64 [n, n], with a diagonal of 0."""
  unit = features_NF.astype(np.float64)
  unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
  kernel = (unit @ unit.T + 1.0) ** 3
  np.fill_diagonal(kernel, 0.0)  # the sums are over i != j
  return kernel


def _members(
  x_SM: np.ndarray, y_SN: np.ndarray, total: int
) -> tuple[np.ndarray, np.ndarray]:
  """Turns indices into rows of 0 and 1, float64 [s, total]."""

  def rows(index):
    member = np.zeros((len(index), total))
    np.put_along_axis(member, index, 1.0, axis=1)
    return member

  return rows(x_SM), rows(y_SN)


def _mmd2(kernel: np.ndarray, x_ST: np.ndarray, y_ST: np.ndarray) -> np.ndarray:
  """Returns the unbiased MMD^2 of each pair of member rows, float64 [s]."""
  m, n = x_ST.sum(1), y_ST.sum(1)
  x_sums, y_sums = x_ST @ kernel, y_ST @ kernel
  within_x = (x_sums * x_ST).sum(1) / (m * (m - 1))
  within_y = (y_sums * y_ST).sum(1) / (n * (n - 1))
  return within_x + within_y - 2 * (x_sums * y_ST).sum(1) / (m * n)
