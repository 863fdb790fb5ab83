"""Laws of block colours: every code survives, and a code is the nearest colour."""

import numpy as np
import pytest

from unijax.codecs import open_codec
from unijax.codecs.blocks import BlockCodec
from unijax.errors import ConfigError

CODEC = BlockCodec()


def test_every_code_survives_the_way_to_pixels_and_back():
  codes = np.arange(CODEC.codebook, dtype=np.int32).reshape(2, 9, 12)
  pixels = CODEC.from_codes(codes)
  assert pixels.dtype == np.uint8 and pixels.shape == (2, 36, 48, 3)
  assert (CODEC.codes(pixels) == codes).all() and CODEC.codes(pixels).dtype == np.int32
  assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == CODEC.codebook


def test_latents_are_the_mean_colours():
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  latents = CODEC.encode(pixels)
  mean = pixels[4:8, 0:4].reshape(-1, 3).mean(0)
  np.testing.assert_allclose(latents[1, 0], mean / 127.5 - 1, rtol=1e-6)
  assert latents.dtype == np.float32
  assert (CODEC.decode(latents)[4:8, 0:4] == np.rint(mean).astype(np.uint8)).all()


def test_a_code_is_the_nearest_colour_of_the_grid():
  colours = np.random.default_rng(1).integers(0, 256, (6, 6, 3), np.uint8)
  pixels = colours.repeat(4, 0).repeat(4, 1)
  grid = CODEC.from_codes(np.arange(CODEC.codebook)[None])[0, ::4].astype(int)
  distance = np.square(colours[..., None, :] - grid).sum(-1)
  chosen = np.take_along_axis(distance, CODEC.codes(pixels)[..., None], -1)[..., 0]
  assert (chosen == distance.min(-1)).all()


def test_mistakes():
  with pytest.raises(ValueError, match="codes from 0 to 216, but the codebook has 216"):
    CODEC.from_codes(np.array([[0, 216]]))
  with pytest.raises(ConfigError, match="unknown 'block' .did you mean 'blocks'"):
    open_codec("block")
  with pytest.raises(ConfigError, match="unknown 'vq'; known: pixels, blocks, or"):
    open_codec("vq")
