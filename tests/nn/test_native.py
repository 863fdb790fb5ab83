"""Pictures of any shape: what patches see, where they stand, what padding does not do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.nn.test_vision import scrambled
from unijax.data.rows import cut
from unijax.nn import places, rope
from unijax.nn.connectors import MergeConnector, ShuffleConnector, space_to_depth
from unijax.nn.vision import VisionTransformer

PATCH = 2
SHAPES = ((8, 12), (4, 4), (16, 4), (0, 0))  # pixels; the last is no picture
MOST = 24  # patches
EYES = dict(
  depth=3, width=16, heads=2, mlp_width=24, patch_size=PATCH, positions="none",
  pool="mean", rope_grid=-1, norm_kind="rms", mlp="swiglu", frames=2,
)  # fmt: skip
KINDS = {
  "whole": {}, "windows": {"window": 3, "whole_blocks": (1,), "skip_blocks": 1},
}  # fmt: skip

quick = functools.partial(jax.jit, compiler_options=small.QUICK)


def padded(shapes, fill=0.0):
  """(patches [B, MOST, 4, 3], grids [B, 2]) of noise."""
  pixels = np.full((len(shapes), MOST, PATCH**2, 3), fill, np.float32)
  rng = np.random.default_rng(0)
  for x, shape in zip(pixels, shapes, strict=True):
    patches = cut(rng.standard_normal((*shape, 3)), PATCH, 2)
    x[: len(patches)] = patches
  return pixels, np.array(shapes) // PATCH


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_encoded_as_it_is_alone(kind):
  """Without padding, whatever stands there; in another shape it is another picture."""
  c = dataclasses.replace(small.config().vision, **{**EYES, **KINDS[kind]})
  module = VisionTransformer(c, 0, pooled=False, factor=2)
  pixels, grid = padded(SHAPES)
  params = {"params": scrambled(module, pixels, None, grid)}
  run = quick(lambda x, g: module.apply(params, x, grid_B2=g)[1])
  got, other = run(pixels, grid), run(*padded(SHAPES, 3.0))
  assert np.isfinite(got).all()
  counts = grid.prod(axis=1)
  for i, count in enumerate(counts):
    np.testing.assert_allclose(got[i, :count], other[i, :count], rtol=1e-4, atol=1e-5)
  alone = run(pixels[2:3, : counts[2]], grid[2:3])
  np.testing.assert_allclose(got[2, : counts[2]], alone[0], rtol=1e-4, atol=1e-5)
  swapped = run(pixels, grid[:, ::-1])  # the same patches in another shape
  assert np.abs(swapped[0] - got[0]).max() > 1e-2
  np.testing.assert_allclose(swapped[1, :4], got[1, :4], rtol=1e-4, atol=1e-5)


def test_a_square_is_a_picture_of_this_shape():
  """In raster order, and in the order of positions, with the same windows."""
  c = dataclasses.replace(small.config().vision, **{**EYES, **KINDS["windows"]})
  picture = np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)
  one, other = (VisionTransformer(c, 8, pooled=False, factor=f) for f in (1, 2))
  params = {"params": scrambled(one, picture)}
  raster = one.apply(params, picture)[1]
  grid = np.array([[4, 4]])
  blocks = other.apply(params, cut(picture[0], PATCH, 2)[None], grid_B2=grid)[1]
  for factor_2 in (
    lambda x, t: space_to_depth(x, 2, t),
    lambda x, t: connected(MergeConnector, x, t),
    lambda x, t: connected(ShuffleConnector, x, t),
  ):
    np.testing.assert_allclose(
      factor_2(raster, False), factor_2(blocks, True), rtol=1e-4, atol=1e-4
    )


def connected(kind, x, together):
  module = kind(8, jnp.float32, together=together)
  return module.apply({"params": scrambled(module, x)}, x)


def test_places_and_windows_by_hand():
  at = places.native(jnp.array([[4, 6], [2, 2]]), 26, 2)
  assert at.row_BP[0, :10].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
  assert at.column_BP[0, :10].tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5]
  assert at.row_BP[0, 12:16].tolist() == [2, 2, 3, 3]
  assert at.inside_BP.sum(axis=1).tolist() == [24, 4]
  near = np.asarray(places.near(at, 4))[0, :24, :24]
  row, column = (np.asarray(x)[0, :24] // 4 for x in (at.row_BP, at.column_BP))
  for q in range(24):
    for k in range(24):
      assert near[q, k] == ((row[q], column[q]) == (row[k], column[k]))
  assert near.sum(axis=1).tolist().count(16) == 16  # the first window; the other has 8


def test_sections_turn_pairs_by_their_own_axis():
  position = jnp.array([[[3, 5, 7], [4, 4, 4]]])
  about = position, 16, 100.0, "grid", (1.0,)
  found = rope.angles(*about, (2, 5, 1))
  turns = 100.0 ** (-np.arange(8) / 8)
  axis = [3, 3, 5, 5, 5, 5, 5, 7]
  np.testing.assert_allclose(found[0, 0], turns * axis, rtol=1e-6)
  np.testing.assert_array_equal(found[0, 1], rope.angles(*about)[0, 1])  # text
