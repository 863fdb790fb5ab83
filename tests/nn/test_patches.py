"""Laws of the U-Net codec: every patch goes to its place, images do not meet."""

import functools

import jax
import numpy as np

from tests import small
from unijax.codecs.pixels import patchify, unpatchify
from unijax.nn.patches import UNetPatches


@functools.cache
def unet(images: int = 4):
  """(config, module, weights, compiled round trip) of patches of 4 pixels."""
  c = small.config(
    model__patch_codec="unet", data__image_size=8, data__patch_size=4,
    data__images_per_row=4, data__seq_len=48,
  )  # fmt: skip
  module = UNetPatches(c.model, c.patch_channels, c.grid, c.data.patch_size, images)

  def there_and_back(self, inputs, time_BTD):
    x, skips = self.encode(inputs, time_BTD)
    return x, self.decode(x, inputs, time_BTD, skips)

  inputs, time = case(c, [0])
  init = functools.partial(module.init, method=there_and_back)
  shapes = jax.eval_shape(init, jax.random.key(0), inputs, time)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape), shapes)
  apply = functools.partial(module.apply, method=there_and_back)
  return c, jax.jit(apply, compiler_options=small.QUICK), params


def case(c, *rows):
  """Inputs of rows of pictures with text in between, and a timestep vector for each."""
  documents = [
    small.Document(
      sum(((small.Text("ab"), small.image(seed, size=8)) for seed in row), ()), id=0
    )
    for row in rows
  ]
  batch = small.batch(c, *[[d] for d in documents])
  vectors = np.random.default_rng(7).standard_normal((20, c.model.width))
  seeds = np.zeros_like(batch.span_BT)
  for b, row in enumerate(rows):
    for number, seed in enumerate(row):
      seeds[b][batch.span_BT[b] == number] = seed
  time_BTD = np.where((batch.span_BT >= 0)[..., None], vectors[seeds], 0.0)
  return small.inputs(c, batch), time_BTD.astype(np.float32)


def outputs(c, apply, params, *rows):
  """{(row, image): (entered [P, D], left [P, C])}."""
  inputs, time = case(c, *rows)
  entered, left = apply(params, inputs, time)
  found = {}
  for b, row in enumerate(rows):
    for number in range(len(row)):
      here = np.asarray(inputs.span_BT[b]) == number
      assert np.asarray(inputs.patch_BT[b])[here].tolist() == [0, 1, 2, 3]
      found[b, number] = np.asarray(entered)[b, here], np.asarray(left)[b, here]
  return found


def test_an_image_is_the_same_wherever_it_stands():
  c, apply, params = unet()
  alone = {i: outputs(c, apply, params, [i], [0])[0, 0] for i in (1, 2, 3)}
  together = outputs(c, apply, params, [2, 1, 3], [3, 2])
  places = {(0, 0): 2, (0, 1): 1, (0, 2): 3, (1, 0): 3, (1, 1): 2}
  for place, image in places.items():
    for one, other in zip(together[place], alone[image], strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
  for one, other in zip(alone[1], alone[2], strict=True):
    assert abs(one - other).min() > 0  # and images do differ


def test_a_codec_of_one_image_agrees_with_one_of_many():
  c, apply, params = unet()
  _, one_image, _ = unet(images=1)
  inputs, time = case(c, [5], [6])
  for a, b in zip(apply(params, inputs, time), one_image(params, inputs, time),
                  strict=True):  # fmt: skip
    here = np.asarray(inputs.patch_BT) >= 0
    np.testing.assert_allclose(
      np.asarray(a)[here], np.asarray(b)[here], rtol=1e-4, atol=1e-4
    )


def transposed(x, p: int):
  """Patches [P, p * p * c] of the picture mirrored at its diagonal."""
  grid = int(len(x) ** 0.5)
  pixels = unpatchify(np.asarray(x), p, grid).swapaxes(0, 1)
  return patchify(pixels, p)


def test_patches_stand_where_they_are_in_the_picture():
  """A mirrored picture under mirrored kernels gives the mirrored result.

  It would not if patches, or pixels in them, were put together in another order.
  """
  c, apply, params = unet()
  p = c.data.patch_size
  inputs, time = case(c, [1])
  here = np.asarray(inputs.patch_BT[0]) >= 0
  mirrored = inputs.patches_BTC.copy()
  mirrored[0, here] = transposed(mirrored[0, here], p)
  kernels = jax.tree.map(lambda x: x.swapaxes(0, 1) if x.ndim == 4 else x, params)
  entered, left = (np.asarray(x)[0, here] for x in apply(params, inputs, time))
  entered_2, left_2 = (
    np.asarray(x)[0, here]
    for x in apply(kernels, inputs.replace(patches_BTC=mirrored), time)
  )
  np.testing.assert_allclose(entered_2, transposed(entered, 1), rtol=1e-4, atol=1e-3)
  np.testing.assert_allclose(left_2, transposed(left, p), rtol=1e-4, atol=1e-3)
  assert abs(left_2 - left).max() > 1
