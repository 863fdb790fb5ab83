"""Vectors for places in images, and waves of time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.laws import variants
from unijax.config import ConfigError
from unijax.nn.timestep import TimeEmbedding, sinusoid
from unijax.nn.vision import corner, fixed, resized, sincos
from unijax.train import freeze


def test_a_smaller_grid_has_the_first_rows_and_columns_of_a_table():
  table = jnp.arange(25.0)[:, None] * jnp.ones(3)
  wanted = [0, 1, 2, 5, 6, 7, 10, 11, 12]
  assert resized(table, 3, "corner")[:, 0].tolist() == wanted
  assert corner(np.arange(9), 3, 5).tolist() == wanted
  assert corner(np.arange(9), 3, 3).tolist() == list(range(9))


def test_a_fixed_table_begins_as_waves_and_rests():
  c = variants.config("diffusion-framed")
  params = small.params(c, 0)
  assert params["patch_position"].shape == (9, 32)
  assert params["feature_position"].shape == (16, 32)
  np.testing.assert_array_equal(fixed(None, (16, 8)), sincos(4, 8))
  assert freeze.globs(c) == ("patch_position", "feature_position")
  rests = freeze.mask(freeze.globs(c), params)
  assert [freeze.name(p) for p, x in jax.tree_util.tree_leaves_with_path(rests) if x] == [
    "feature_position", "patch_position",
  ]  # fmt: skip


def test_sinusoids_are_cosines_then_sines_of_falling_frequencies():
  t = np.array([0.0, 0.3, 1.0, 1000.0], np.float32)
  found = np.asarray(sinusoid(jnp.asarray(t), 256))
  angle = t[:, None].astype(np.float64) * 10_000.0 ** (-np.arange(128) / 128)
  wanted = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
  np.testing.assert_allclose(found, wanted, atol=2e-4)
  scaled, plain = (
    TimeEmbedding(8, jnp.float32, "sinusoid", s, 256) for s in (1000.0, 1.0)
  )
  params = nn.unbox(plain.init(jax.random.key(0), jnp.zeros(1)))
  assert params["params"]["in"]["kernel"].shape == (256, 8)
  one, thousand = (
    x.apply(params, y) for x, y in ((scaled, t[1:3]), (plain, t[1:3] * 1e3))
  )
  np.testing.assert_allclose(one, thousand, atol=1e-6)


@pytest.mark.parametrize(
  ("knobs", "said"),
  [
    ({"model__patch_grid": 1}, "model.patch_grid: 1 places a side have no vectors"),
    ({"model__patch_position": "none"}, "model.patch_grid: 3 is read with a vector"),
    ({"model__time_waves": "fast", "model__time_scale": 2.0}, "model.time_scale: 2"),
    ({"vision__position_grid": 1}, "vision.position_grid: 1 places a side"),
    ({"model__connector": "resampler"}, "model.feature_position: model.connector="),
    ({"model__read": "patches"}, "model.feature_position: model.read='patches' has no"),
    ({"vision__image_size": 11}, "vision.image_size: 11 must be a multiple of"),
    ({"sample__guidance_rescale": 0.5}, "sample.guidance_renorm: 'patch' and sample.g"),
    (
      {"model__write": "masked", **variants.CODES, "model__time_waves": "fast",
       "sample__guidance_renorm": "none", "sample__guidance_image": 2.0},
      "sample.guidance_image: 2.0 acts on the slope",
    ),
  ],
)  # fmt: skip
def test_what_has_no_place_is_refused(knobs, said):
  with pytest.raises(ConfigError, match=said):
    variants.config("diffusion-framed", **knobs)
