"""Blocks that only denoise: how they begin, what a position says, how many weights."""

import math

import jax
import numpy as np
import pytest

from configs import showo2
from tests import small
from tests.conftest import ROOT
from tests.laws import variants
from unijax import config_file
from unijax.codecs.pixels import patchify
from unijax.train.functions import StepFunctions

NAME = "diffusion-denoiser"


def heads(c, params, batch, patches, time):
  return small.forward(c)(params, small.inputs(c, batch, patches, time))


@pytest.mark.slow
def test_at_the_start_blocks_pass_on_what_the_decoder_says_of_an_image():
  """Gates are zero there, and one at words, whose keys an image does not see yet."""
  c = variants.config(NAME, denoiser__depth=1)
  without = variants.config(NAME, denoiser__depth=1, denoiser__rope_theta=3.0)
  batch = variants.in_rows(c, [0, 1], [3])
  params = small.functions(c).init().params
  time = np.where(batch.patch_BT >= 0, 0.5, 0.0)
  one, other = (heads(x, params, batch, batch.patches_BTC, time) for x in (c, without))
  image = batch.patch_BT >= 0
  np.testing.assert_array_equal(one[1][image], other[1][image])
  moved = small.params(c, 0)
  one, other = (heads(x, moved, batch, batch.patches_BTC, time) for x in (c, without))
  assert abs(one[1] - other[1])[image].max() > 1e-3, "the blocks do nothing"
  np.testing.assert_array_equal(one[0], other[0])  # words are the decoder's alone


def test_a_run_is_what_stands_line_by_line_in_the_place_of_a_patch():
  run, patch = (variants.config(NAME, model__patch_out=x) for x in ("run", "patch"))
  batch, params = variants.in_rows(run, [4], [0, 3]), small.params(run, 0)
  time = np.where(batch.patch_BT >= 0, 0.5, 0.0)
  found, said = (
    heads(c, params, batch, batch.patches_BTC, time)[1] for c in (run, patch)
  )
  for row, number in ((0, 0), (0, 1), (1, 2)):
    here = (batch.span_BT[row] == number) & (batch.patch_BT[row] >= 0)
    lines = said[row, here].reshape(variants.SIZE, variants.SIZE, 3)
    np.testing.assert_array_equal(found[row, here], patchify(lines, 4))
    assert abs(found - said)[row, here].max() > 1e-3


@pytest.mark.parametrize("preset", showo2.PUBLISHED)
def test_with_latents_a_published_size_has_its_parameters(preset):
  file = ROOT / "configs" / "showo2.py"
  latents = ("data.codec=latents:16:8", "data.patch_size=2", "sample.clip_x0=0")
  c = config_file.load(
    [f"--config={file}:{preset}", *(f"--config.{x}" for x in latents)]
  )
  params = jax.eval_shape(StepFunctions(c, c.data.vocab).init).params
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
  assert count == showo2.PUBLISHED[preset]
