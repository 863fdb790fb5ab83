"""Laws of codecs that see images: every patch goes to its place, images do not meet."""

import functools
import math

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests import small
from unijax.codecs.pixels import patchify, unpatchify
from unijax.nn.patches import PATCH_CODECS

CODECS = ("unet", "convnext")


def there_and_back(codec, inputs, time_BTD):
  x, skips = codec.encode(inputs, time_BTD)
  return x, codec.decode(x, inputs, time_BTD, skips)


@functools.cache
def made(codec: str = "unet", images: int = 4):
  """(config, compiled round trip, weights) of patches of 4 pixels."""
  c = small.config(
    model__patch_codec=codec, data__image_size=8, data__patch_size=4,
    data__images_per_row=4, data__seq_len=48,
  )  # fmt: skip
  sizes = c.patch_channels, c.grid, c.data.patch_size, images
  module = PATCH_CODECS[codec](c.model, *sizes)

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


@pytest.mark.parametrize("codec", CODECS)
def test_an_image_is_the_same_wherever_it_stands(codec):
  c, apply, params = made(codec)
  alone = {i: outputs(c, apply, params, [i], [0])[0, 0] for i in (1, 2, 3)}
  together = outputs(c, apply, params, [2, 1, 3], [3, 2])
  places = {(0, 0): 2, (0, 1): 1, (0, 2): 3, (1, 0): 3, (1, 1): 2}
  for place, image in places.items():
    for one, other in zip(together[place], alone[image], strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
  for one, other in zip(alone[1], alone[2], strict=True):
    assert abs(one - other).min() > 0  # and images do differ


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_of_one_image_agrees_with_one_of_many(codec):
  c, apply, params = made(codec)
  _, one_image, _ = made(codec, images=1)
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
  c, apply, params = made()
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


# -- the ConvNeXt codec by its equations -----------------------------------------------


def rms(w, x):
  return w["scale"] * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def mapped(w, x):
  return x @ w["kernel"] + w["bias"]


def convnext_block(w, x, time):
  """[h, w, F] of one image; `time` is its vector."""
  h, width, F = x.shape
  padded, y = np.pad(x, ((3, 3), (3, 3), (0, 0))), np.zeros_like(x)
  for i in range(7):
    for j in range(7):
      y += padded[i : i + h, j : j + width] * w["depthwise"]["kernel"][i, j, 0]
  y = mapped(w["up"], rms(w["norm"], y + w["depthwise"]["bias"]))
  y = y * 0.5 * (1 + np.vectorize(math.erf)(y / np.sqrt(2)))
  size = np.sqrt((y**2).sum((0, 1)))
  y = (
    w["response"]["scale"] * y * size / (size.mean() + 1e-6) + w["response"]["bias"] + y
  )
  scale, shift = np.split(mapped(w["time"], time / (1 + np.exp(-time))), 2)
  return (x + mapped(w["down"], y)) * (1 + scale) + shift


def test_the_convnext_codec_is_its_equations():
  c, apply, params = made("convnext")
  inputs, time_BTD = case(c, [1])
  here = np.asarray(inputs.patch_BT[0]) >= 0
  w = jax.tree.map(lambda x: np.asarray(x, np.float64), nn.unbox(params)["params"])
  time, g = time_BTD[0, here][0], c.grid
  x = mapped(w["enter"], inputs.patches_BTC[0, here]).reshape(g, g, -1)
  skip = convnext_block(w["down0"], x, time)
  entered = mapped(w["align"], skip.reshape(g * g, -1))
  x = rms(w["join_norm"], mapped(w["back"], rms(w["back_norm"], entered)))
  x = np.concatenate([x.reshape(g, g, -1), skip], axis=-1)
  x = convnext_block(w["up0"], x, time)
  left = mapped(w["leave"], rms(w["out_norm"], x)).reshape(g * g, -1)
  found = apply(params, inputs, time_BTD)
  for mine, wanted in zip(found, (entered, left), strict=True):
    error = np.abs(np.asarray(mine)[0, here] - wanted).max()
    assert error < 2e-5 * np.abs(wanted).max(), error


def test_the_published_stacks_have_their_number_of_parameters():
  """JanusFlow's, without its time embedding: 21,614,336 and 50,561,296 with it."""
  c = small.config(
    model__patch_codec="convnext", model__unet_width=768, model__width=2048,
    model__unet_blocks=2,
  )  # fmt: skip
  module = PATCH_CODECS["convnext"](c.model, 16, 24, 2, 1)
  inputs, _ = case(small.config(data__image_size=8, data__seq_len=48), [0])
  inputs = inputs.replace(patches_BTC=np.zeros((1, 48, 16), np.float32))
  time = np.zeros((1, 48, 2048), np.float32)
  init = functools.partial(module.init, method=there_and_back)
  tree = nn.unbox(jax.eval_shape(init, jax.random.key(0), inputs, time))["params"]
  count = {n: sum(x.size for x in jax.tree.leaves(w)) for n, w in tree.items()}
  time_embedding = 768 * 2048 + 2048 + 2048**2 + 2048
  assert count["enter"] + count["down0"] + count["down1"] == 21_614_336 - time_embedding
  parts = ("join_norm", "up0", "up1", "out_norm", "leave")
  assert sum(count[n] for n in parts) == 50_561_296
