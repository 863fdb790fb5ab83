"""Encoders: what each token sees, what stands where, how features are pooled."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from unijax.nn import encoder, places, vision
from unijax.nn.text_tower import TextTransformer
from unijax.nn.vision import VisionTransformer

SIZE, PATCH = 8, 4
VARIANTS = {
  "plain": {},
  "class token": {"pool": "class", "patch_bias": False, "embed_norm": True},
  "mean": {"pool": "mean", "positions": "sincos", "registers": 2},
  "rotary": {
    "pool": "class", "rope_grid": 4, "sub_norm": True, "mlp": "swiglu",
    "qkv_bias": "query_value",
  },
  "norm last": {"norm": "branch", "layer_scale": 0.1, "qk_norm": True},
}  # fmt: skip
RELEASED = {  # pictures of another normalisation and size, features of an earlier block
  "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "crop": True, "position_grid": 3,
  "position_resize": "smooth", "skip_blocks": 1, "features_norm": False,
}  # fmt: skip


quick = functools.partial(jax.jit, compiler_options=small.QUICK)


def config(**knobs):
  shape = {"depth": 2, "width": 16, "heads": 2, "mlp_width": 24, "patch_size": PATCH}
  return dataclasses.replace(small.config().vision, **{**shape, **knobs})


def pictures(rows: int = 2):
  return jax.random.normal(jax.random.key(1), (rows, SIZE, SIZE, 3))


def scrambled(module, *args, method=None):
  """Parameters of which none is zero or one: fresh ones hide mistakes."""
  init = functools.partial(module.init, method=method)
  shapes = jax.eval_shape(init, jax.random.key(0), *args)["params"]
  leaves, tree = jax.tree.flatten(nn.unbox(shapes))
  rng = np.random.default_rng(0)
  made = [jnp.asarray(0.4 * rng.standard_normal(x.shape), jnp.float32) for x in leaves]
  return jax.tree.unflatten(tree, made)


def numpy_encoder(c, p, pixels):
  """The whole of `plain` in NumPy, a picture and a head at a time; and `RELEASED`."""
  norm = lambda p, x: (
    (x - x.mean(-1, keepdims=True))
    / np.sqrt(x.var(-1, keepdims=True) + c.norm_eps)
    * p["scale"]
    + p["bias"]
  )
  linear = lambda p, x: x @ p["kernel"] + p["bias"]
  gelu = lambda x: np.asarray(jax.nn.gelu(x, approximate=False))

  def attention(p, x, source):
    q, k, v = linear(p["q"], x), linear(p["k"], source), linear(p["v"], source)
    width, out = c.width // c.heads, []
    for h in range(c.heads):
      part = slice(h * width, (h + 1) * width)
      scores = q[:, part] @ k[:, part].T / np.sqrt(width)
      weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
      out.append(weights @ v[:, part])
    return linear(p["out"], np.concatenate(out, -1))

  def mlp(p, x):
    return linear(p["down"], gelu(linear(p["up"], x)))

  pixels = ((pixels + 1) / 2 - c.mean) / c.std
  patches = [
    pixels[y : y + PATCH, x : x + PATCH].reshape(-1)
    for y in range(0, SIZE, PATCH)
    for x in range(0, SIZE, PATCH)
  ]
  side = c.position_grid or SIZE // PATCH
  w = vision.resize_matrix(side, SIZE // PATCH, c.position_resize)
  place = w @ p["position"].T.reshape(c.width, side, side) @ w.T
  x = linear(p["patch"], np.stack(patches)) + place.reshape(c.width, -1).T
  earlier = [x]
  for i in range(c.depth):
    b = jax.tree.map(lambda leaf, i=i: leaf[i], p["encoder"]["blocks"])
    y = norm(b["attention_norm"], x)
    x = x + attention(b["attention"], y, y)
    x = x + mlp(b["mlp"], norm(b["mlp_norm"], x))
    earlier.append(x)
  h = norm(p["final_norm"], x)
  kept = earlier[c.depth - c.skip_blocks]
  y = attention(p["pool"]["attention"], p["pool"]["probe"], h)
  y = y + mlp(p["pool"]["mlp"], norm(p["pool"]["norm"], y))
  return y[0], norm(p["final_norm"], kept) if c.features_norm else kept


@pytest.mark.parametrize("knobs", [{}, RELEASED], ids=["plain", "released"])
def test_it_is_the_formula(knobs):
  c = config(**knobs)
  edge = 2 if c.crop else 0  # pixels that no patch reads
  module = VisionTransformer(c, SIZE + edge)
  given = jnp.pad(pictures(), ((0, 0), (0, edge), (0, edge), (0, 0)), "reflect")
  params = scrambled(module, given)
  pooled, features = quick(module.apply)({"params": params}, given)
  plain = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  for i, pixels in enumerate(np.asarray(pictures(), np.float64)):
    want = numpy_encoder(c, plain, pixels)
    np.testing.assert_allclose(pooled[i], want[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features[i], want[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_patch_sees_every_patch_and_no_other_picture(name):
  c = config(**VARIANTS[name])
  module = VisionTransformer(c, SIZE)
  params = scrambled(module, pictures())
  patches = (SIZE // PATCH) ** 2

  def outputs(pixels):
    pooled, features = module.apply({"params": params}, pixels)
    assert pooled.shape == (2, c.width) and features.shape == (2, patches, c.width)
    return jnp.concatenate([pooled[:, None], features], axis=1).sum(-1)

  slope = quick(jax.jacobian(outputs))(pictures())  # [2, 1 + P, 2, size, size, 3]
  slope = np.abs(slope).reshape(2, 1 + patches, 2, 2, PATCH, 2, PATCH, 3)
  seen = slope.max(axis=(4, 6, 7)) > 0
  for b in range(2):
    assert seen[b, :, b].all()
    assert not seen[b, :, 1 - b].any()


@pytest.mark.parametrize("name", ["plain", "mean", "rotary"])
def test_where_a_patch_stands_matters(name):
  knobs = VARIANTS[name]
  swapped = jnp.flip(pictures().reshape(2, 2, PATCH, SIZE, 3), axis=1)
  swapped = swapped.reshape(2, SIZE, SIZE, 3)  # the upper and the lower half

  def change(**knobs):
    module = VisionTransformer(config(**knobs), SIZE)
    params = scrambled(module, pictures())
    apply = quick(lambda x: module.apply({"params": params}, x)[0])
    pooled = [apply(x) for x in (pictures(), swapped)]
    return np.abs(pooled[0] - pooled[1]).max()

  nowhere = {**knobs, "positions": "none", "rope_grid": 0}
  assert change(**nowhere) < 1e-5
  if name == "rotary":
    knobs = {**knobs, "positions": "none"}
  assert change(**knobs) > 1e-3


WEIGHTS = {  # of a library that released tables are resized by
  (4, 3, "bicubic"): [
    [0.85648, 0.16088, -0.01736, 0.0], [-0.09375, 0.59375, 0.59375, -0.09375],
    [0.0, -0.01736, 0.16088, 0.85648],
  ],
  (3, 4, "bicubic"): [
    [1.07178, -0.07178, 0.0], [0.36035, 0.74951, -0.10986],
    [-0.10986, 0.74951, 0.36035], [0.0, -0.07178, 1.07178],
  ],
  (4, 3, "smooth"): [
    [0.75286, 0.30435, -0.05721, 0.0], [-0.0352, 0.5352, 0.5352, -0.0352],
    [0.0, -0.05721, 0.30435, 0.75286],
  ],
  (3, 4, "smooth"): [
    [1.05224, -0.05224, 0.0], [0.37325, 0.69691, -0.07016],
    [-0.07016, 0.69691, 0.37325], [0.0, -0.05224, 1.05224],
  ],
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS, ids=str)
def test_tables_are_resized_as_where_they_were_trained(case):
  np.testing.assert_allclose(vision.resize_matrix(*case), WEIGHTS[case], atol=1e-5)


def test_a_table_of_the_same_grid_is_left_alone_and_a_plane_stays_a_plane():
  table = jax.random.normal(jax.random.key(0), (9, 2))
  assert vision.resized(table, 3, "bicubic") is table
  row, column = (x.reshape(-1, 1) for x in np.mgrid[:9, :9].astype(np.float32))
  plane = jnp.asarray(np.concatenate([row, 2 * column], axis=1))
  inner = vision.resized(plane, 11, "smooth").reshape(11, 11, 2)[2:9, 2:9]
  want = ((np.arange(11) + 0.5) * 9 / 11 - 0.5)[2:9]
  np.testing.assert_allclose(inner[..., 0], np.tile(want[:, None], 7), atol=1e-5)
  np.testing.assert_allclose(inner[..., 1], np.tile(2 * want, (7, 1)), atol=1e-5)


def test_rotary_scores_depend_on_the_distance_alone():
  q, k = (jax.random.normal(jax.random.key(i), (8,)) for i in (2, 3))
  sin, cos = places.rotation(places.square(4), 1.0, prefix=1, head_dim=8)
  turn = lambda x: encoder.rope.rotate(jnp.broadcast_to(x, (1, 17, 1, 8)), (sin, cos))
  np.testing.assert_allclose(turn(q)[0, 0, 0], q, rtol=1e-6)  # the class token
  scores = jnp.einsum("tk,sk->ts", turn(q)[0, 1:, 0], turn(k)[0, 1:, 0])
  scores = scores.reshape(4, 4, 4, 4)
  np.testing.assert_allclose(scores[0, 1, 2, 2], scores[1, 2, 3, 3], rtol=1e-5)
  assert abs(scores[0, 1, 2, 2] - scores[1, 0, 2, 2]) > 1e-3


def test_hidden_patches_are_not_seen():
  module = VisionTransformer(config(), SIZE, maskable=True)
  hidden = jnp.asarray([[True, False, False, True]] * 2)
  params = scrambled(module, pictures(), hidden)
  seen = lambda x: module.apply({"params": params}, x, hidden)[1].sum()
  slope = np.abs(quick(jax.grad(seen))(pictures())).reshape(2, 2, PATCH, 2, PATCH, 3)
  slope = slope.max(axis=(2, 4, 5)).reshape(2, 4)
  assert (slope[:, [0, 3]] == 0).all() and (slope[:, [1, 2]] > 0).all()


def test_mean_pooling_is_the_mean_of_the_features():
  module = VisionTransformer(config(**VARIANTS["mean"]), SIZE)
  params = scrambled(module, pictures())
  pooled, features = quick(module.apply)({"params": params}, pictures())
  np.testing.assert_allclose(pooled, features.mean(axis=1), atol=1e-6)


def test_attention_pooling_does_not_care_for_the_order():
  c = config()
  pool = vision.AttentionPool(c)
  h = jax.random.normal(jax.random.key(4), (2, 5, c.width))
  params = scrambled(pool, h)
  pooled = [quick(pool.apply)({"params": params}, x) for x in (h, h[:, ::-1])]
  np.testing.assert_allclose(*pooled, atol=1e-5)
  assert np.abs(pooled[0][0] - pooled[0][1]).max() > 1e-3


@pytest.mark.parametrize("remat", ["full", "dots", "attention"])
def test_remat_changes_no_gradient(remat):
  def slope(remat):
    module = VisionTransformer(config(remat=remat), SIZE)
    params = scrambled(module, pictures())
    loss = lambda p: jnp.square(module.apply({"params": p}, pictures())[0]).sum()
    return quick(jax.grad(loss))(params)

  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, slope("none"), slope(remat))


def test_bfloat16_is_close():
  def pooled(dtype):
    module = VisionTransformer(config(dtype=dtype), SIZE)
    return quick(module.apply)({"params": scrambled(module, pictures())}, pictures())[0]

  low, high = pooled("bfloat16"), pooled("float32")
  assert low.dtype == jnp.bfloat16
  assert np.abs(low - high).max() < 0.05 * np.abs(high).max()


# -- words -------------------------------------------------------------------------------


def words(causal: bool, pool: str):
  """(how much each text's vector moves with each token's embedding, lengths)."""
  shape = {"depth": 2, "width": 16, "heads": 2, "mlp_width": 24, "length": 6}
  c = dataclasses.replace(small.config().text, causal=causal, pool=pool, **shape)
  module = TextTransformer(c, vocab=12)
  tokens = jnp.asarray([[1, 5, 2, 0, 0, 0], [1, 3, 4, 6, 2, 0]])
  end = jnp.asarray([2, 4])
  params = scrambled(module, tokens, end)

  def pooled(position):
    changed = {**params, "position": position}
    return module.apply({"params": changed}, tokens, end)[0].sum(-1)

  return np.abs(quick(jax.jacobian(pooled))(params["position"])).max(-1) > 0, end


def test_a_causal_text_ends_at_its_end():
  seen, end = words(causal=True, pool="eos")
  for row, last in zip(seen, end, strict=True):
    assert row[: last + 1].all() and not row[last + 1 :].any()


@pytest.mark.parametrize("pool", ["eos", "last"])
def test_a_bidirectional_text_sees_all_positions(pool):
  assert words(causal=False, pool=pool)[0].all()
