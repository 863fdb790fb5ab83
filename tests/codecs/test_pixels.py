"""Laws of codecs without parameters and of patches: exact inverses, raster order."""

import numpy as np
import pytest

from unijax.codecs import BUILT_IN, open_codec, sizes
from unijax.codecs.pixels import PixelCodec, patchify, unpatchify


@pytest.mark.parametrize("p", [1, 2, 4, 8])
@pytest.mark.parametrize("grid", [1, 3])
def test_unpatchify_inverts_patchify(p, grid):
  latents = np.random.default_rng(0).standard_normal((2, grid * p, grid * p, 5))
  patches = patchify(latents, p)
  assert patches.shape == (2, grid**2, p * p * 5)
  assert (unpatchify(patches, p, grid) == latents).all()
  assert (patchify(latents[0], p) == patches[0]).all()


def test_patches_come_in_raster_order():
  latents = np.arange(4 * 6 * 2).reshape(4, 6, 2)  # 2 x 3 patches of 2 x 2
  patches = patchify(latents, 2)
  for i, (y, x) in enumerate([(0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4)]):
    assert (patches[i] == latents[y : y + 2, x : x + 2].reshape(-1)).all()


def test_every_pixel_survives():
  codec = PixelCodec()
  pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
  latents = codec.encode(pixels)
  assert latents.dtype == np.float32
  assert latents.min() == -1 and latents.max() == 1
  assert (codec.decode(latents) == pixels).all()
  assert codec.decode(np.array([-9.0, 9.0])).tolist() == [0, 255]


@pytest.mark.parametrize("name", BUILT_IN)
def test_sizes_are_those_a_codec_names(name):
  codec = open_codec(name)
  assert open_codec(name) is codec
  assert sizes(name) == (codec.stride, codec.channels, codec.codebook, True)
  latents = codec.encode(np.zeros((8 * codec.stride, 8 * codec.stride, 3), np.uint8))
  assert latents.shape == (8, 8, codec.channels)
  assert codec.decode(latents).shape == (8 * codec.stride, 8 * codec.stride, 3)
