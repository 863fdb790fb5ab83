"""Laws of bottlenecks: codes and entries, straight-through gradients, averages, revival."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from unijax.codecs import bottlenecks
from unijax.codecs.bottlenecks import BOTTLENECKS, fsq_bound
from unijax.codecs.frozen import codebook, section
from unijax.codecs.vector_quantizer import VectorQuantizer

KEYS = jax.random.split(jax.random.key(9), 2)


def knobs(bottleneck: str, **changes):
  values = base.get_config().codec.to_dict()
  levels = (8, 5, 4) if bottleneck == "fsq" else values["levels"]
  values.update(
    bottleneck=bottleneck, channels=3, codebook=7, levels=levels, multipliers=(1, 2),
    **changes,
  )  # fmt: skip
  return section({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})


@functools.cache
def vectors(features: int = 3, seed: int = 0) -> jax.Array:
  draw = np.random.default_rng(seed).standard_normal((2, 4, 4, features))
  return jnp.asarray(draw, jnp.float32)


def bound(name: str, **changes):
  """(module, its variables) of a bottleneck."""
  config = knobs(name, **changes)
  module = BOTTLENECKS[name](config)
  features = BOTTLENECKS[name].encoder_features(config)
  return module, module.init(jax.random.key(1), vectors(features), KEYS)


DISCRETE = [name for name in BOTTLENECKS if name != "kl"]


@pytest.mark.parametrize("name", DISCRETE)
def test_latents_are_the_entries_of_the_codes(name):
  module, variables = bound(name)
  out = module.apply(variables, vectors(), KEYS)
  codes = module.apply(variables, vectors(), method="codes")
  entries = module.apply(variables, codes, method="entries")
  assert codes.dtype == jnp.int32 and (codes == out.codes_BHWQ).all()
  assert codes.shape == (2, 4, 4, len(module.codebooks(module.config)))
  for q, book in enumerate(module.codebooks(module.config)):
    assert codes[..., q].min() >= 0 and codes[..., q].max() < book
  np.testing.assert_allclose(out.latents_BHWC, entries, atol=1e-6)
  clean = module.apply(variables, vectors(), method="clean")
  np.testing.assert_array_equal(clean, entries)


@pytest.mark.parametrize("name", DISCRETE)
def test_gradients_pass_as_if_nothing_were_rounded(name):
  module, variables = bound(name)
  weight = vectors(seed=1)
  through = jax.grad(lambda z: (module.apply(variables, z, KEYS)[0] * weight).sum())
  if name == "fsq":  # the squashing before the rounding is differentiated
    half = jnp.asarray([4, 2, 2])
    smooth = lambda z: (fsq_bound(z, (8, 5, 4)) / half * weight).sum()
    want = jax.grad(smooth)(vectors())
  else:
    want = weight
  np.testing.assert_allclose(through(vectors()), want, rtol=1e-5)


def test_every_fsq_code_is_one_vector_and_back():
  module, variables = bound("fsq")
  levels = np.array(module.config.levels)
  codes = jnp.arange(levels.prod(), dtype=jnp.int32)[:, None]
  entries = np.asarray(module.apply(variables, codes, method="entries"))
  assert len(np.unique(entries, axis=0)) == 160 and abs(entries).max() <= 1
  assert [len(np.unique(entries[:, i])) for i in range(3)] == [8, 5, 4]
  half = (levels - 1) * (1 + 1e-3) / 2  # undo the squashing
  offset = np.where(levels % 2 == 0, 0.5, 0.0)
  z = np.arctanh((entries * (levels // 2) + offset) / half) - np.arctanh(offset / half)
  again = module.apply(variables, jnp.asarray(z, jnp.float32), method="codes")
  assert (again == codes).all()
  huge = module.apply(variables, jnp.full((1, 3), 1e3), method="codes")
  assert int(huge[0, 0]) == 159


def test_bits_are_signs_and_the_first_channel_is_the_highest():
  module, variables = bound("lfq")
  codes = jnp.arange(8, dtype=jnp.int32)[:, None]
  entries = module.apply(variables, codes, method="entries")
  assert (module.apply(variables, entries, method="codes") == codes).all()
  assert entries[4].tolist() == [1, -1, -1]


def test_entropy_loss_wants_sure_pictures_and_all_codes():
  module, variables = bound("lfq", entropy_weight=1.0)
  signs = module.apply(variables, jnp.arange(8)[:, None] % 8, method="entries")
  spread = jnp.tile(signs.reshape(1, 2, 4, 3), (2, 2, 1, 1)) * 20.0
  entropy = lambda z: float(module.apply(variables, z, KEYS).losses["entropy"][0])
  assert entropy(spread) == pytest.approx(-np.log(8), abs=1e-3)  # sure, and all alike
  assert entropy(jnp.abs(spread)) == pytest.approx(0.0, abs=1e-3)  # sure of one code
  assert entropy(spread * 0) == pytest.approx(0.0, abs=1e-3)  # unsure everywhere


@pytest.mark.parametrize("together", [9, 2])
def test_entropy_loss_is_that_of_the_softmax_over_all_codes(together, monkeypatch):
  """By brute force; of several groups of bits the second entropy is a sum."""
  monkeypatch.setattr(bottlenecks, "BITS_AT_ONCE", together)
  module, variables = bound("lfq", entropy_weight=0.3, entropy_temperature=2.0)
  z = np.asarray(vectors(), np.float64)
  entropy = lambda p: -(p * np.log(p)).sum(-1)

  def shares(bits):
    """p(code | z) of some channels, [places, codes]."""
    count = bits.stop - bits.start
    signs = 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1) - 1
    near = -np.square(z.reshape(-1, 1, 3)[..., bits] - signs).sum(-1) / 2.0
    return np.exp(near) / np.exp(near).sum(-1, keepdims=True)

  sure = entropy(shares(slice(0, 3))).reshape(2, -1).mean(1)
  groups = [slice(i, min(i + together, 3)) for i in range(0, 3, together)]
  spread = sum(entropy(shares(bits).mean(0)) for bits in groups)
  found = module.apply(variables, vectors(), KEYS).losses["entropy"]
  np.testing.assert_allclose(found, 0.3 * (sure - spread), rtol=1e-4)


@pytest.mark.parametrize("name", ["vq", "rvq", "lfq"])
def test_commitment_pulls_vectors_to_their_entries_and_not_entries(name):
  module, variables = bound(name, commitment=0.3, quantizers=1)
  z = vectors()
  loss = lambda z: module.apply(variables, z, KEYS).losses["commitment"]
  apart = z - module.apply(variables, z, method="clean")
  np.testing.assert_allclose(loss(z), 0.3 * (apart**2).mean((1, 2, 3)), rtol=1e-5)
  gradient = jax.grad(lambda z: loss(z).sum())(z)
  np.testing.assert_allclose(gradient, 0.6 * apart / apart[0].size, rtol=1e-4)
  if name != "lfq":
    of = lambda v: module.apply(v, z, KEYS).losses["commitment"].sum()
    assert all((g == 0).all() for g in jax.tree.leaves(jax.grad(of)(variables)))


def test_gaussian_latents_are_drawn_for_each_picture_apart():
  """Mean and spread are those of the moments; a picture's draw is its key's."""
  module, variables = bound("kl")
  z = jnp.concatenate(
    [jnp.full((2, 64, 64, 3), 2.0), jnp.full((2, 64, 64, 3), -1.0)], -1
  )
  drawn = module.apply(variables, z, KEYS).latents_BHWC
  np.testing.assert_allclose(drawn.mean((1, 2, 3)), 2.0, atol=0.03)
  np.testing.assert_allclose(drawn.std((1, 2, 3)), np.exp(-0.5), rtol=0.03)
  assert (drawn[0] != drawn[1]).any()
  swapped = module.apply(variables, z, KEYS[::-1]).latents_BHWC
  np.testing.assert_array_equal(swapped, drawn[::-1])
  assert (module.apply(variables, z, method="clean") == 2.0).all()


def test_kl_is_the_divergence_and_zero_at_the_prior():
  module, variables = bound("kl", kl_weight=1.0)
  loss = lambda z: module.apply(variables, z, KEYS).losses["kl"]
  assert (loss(jnp.zeros((2, 4, 4, 6))) == 0).all()
  mean, log_variance = np.split(np.asarray(vectors(6)), 2, axis=-1)
  kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
  per_pixel = kl.sum((1, 2, 3)) / (3 * 8 * 8)  # stride 2
  np.testing.assert_allclose(loss(vectors(6)), per_pixel, rtol=1e-5)


# -- codebooks ---------------------------------------------------------------------------


def step(config, params, z, depth, key=0):
  """One update of a codebook from the statistics of a batch."""
  module = VectorQuantizer(config, depth)
  *_, statistics = module.apply({"params": params}, z)
  return VectorQuantizer.update(config, params, statistics, jax.random.key(key))


def fresh(config, depth: int = 1):
  module = VectorQuantizer(config, depth)
  return module.init(jax.random.key(2), vectors())["params"]


def test_averages_equal_the_formula():
  config = knobs("vq", codebook_decay=0.9, revive_below=0.0)
  params = fresh(config)
  total = np.asarray(params["codebook"][0] * params["uses"][0][:, None])
  uses = np.asarray(params["uses"][0])
  for seed in range(3):
    z = vectors(seed=seed)
    flat, book = np.asarray(z).reshape(-1, 3), np.asarray(params["codebook"][0])
    code = np.square(flat[:, None] - book).sum(-1).argmin(1)
    one_hot = np.eye(7)[code]
    uses = 0.9 * uses + 0.1 * one_hot.sum(0)
    total = 0.9 * total + 0.1 * one_hot.T @ flat
    params = step(config, params, z, 1)
    np.testing.assert_allclose(params["uses"][0], uses, rtol=1e-5)
    np.testing.assert_allclose(
      params["codebook"][0], total / uses[:, None], rtol=1e-4, atol=1e-6
    )


def test_statistics_of_parts_add_up():
  config = knobs("rvq")
  params, module = fresh(config, 2), VectorQuantizer(config, 2)
  *_, whole = module.apply({"params": params}, vectors())
  parts = [module.apply({"params": params}, vectors()[i : i + 1])[-1] for i in (0, 1)]
  for name, pair in whole.items():
    for i, values in enumerate(pair):
      summed = parts[0][name][i] + parts[1][name][i]
      np.testing.assert_allclose(summed, values, rtol=1e-5, atol=1e-6)


def test_dead_codes_split_busy_ones():
  config = knobs("vq", codebook_decay=0.0, revive_below=0.5)
  params = fresh(config)
  book = params["codebook"].at[0, :6].set(100.0).at[0, 6].set(0.0)  # one code is near
  new = step(config, {**params, "codebook": book}, vectors(), 1)
  entries = np.asarray(new["codebook"][0])
  np.testing.assert_allclose(
    entries[6], np.asarray(vectors()).reshape(-1, 3).mean(0), rtol=1e-4, atol=1e-5
  )
  assert abs(entries).max() < 5 and len(np.unique(entries[:, 0])) == 7
  assert (np.asarray(new["uses"]) >= 0.5).all()
  kept = knobs("vq", codebook_decay=0.0, revive_below=0.0)
  left = step(kept, {**params, "codebook": book}, vectors(), 1)
  assert (np.asarray(left["uses"][0, :6]) == 0).all()


def test_each_codebook_leaves_less_over():
  config = knobs("rvq", codebook_decay=0.5)
  module, params = VectorQuantizer(config, 3), fresh(config, 3)
  z = vectors(seed=3)
  for i in range(25):
    params = step(config, params, z, 3, key=i)
  codes = module.apply({"params": params}, z, method="codes")
  errors, entry = [float((z**2).mean())], 0.0
  for q in range(3):
    entry = entry + jnp.take(params["codebook"][q], codes[..., q], axis=0)
    errors.append(float(((z - entry) ** 2).mean()))
  assert errors == sorted(errors, reverse=True) and errors[3] < 0.1 * errors[0], errors


def test_gradient_codebooks_move_to_their_vectors():
  config = knobs("vq", codebook_update="gradient", commitment=0.0, revive_below=0.0)
  module, params = VectorQuantizer(config, 1), fresh(config)
  loss = lambda p: module.apply({"params": p}, vectors())[2].sum()
  before, gradient = loss(params), jax.grad(loss)(params)
  moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
  assert loss(moved) < before and abs(gradient["codebook"]).max() > 0
  kept = step(config, params, vectors(), 1)
  np.testing.assert_array_equal(kept["codebook"], params["codebook"])
  of = lambda z: module.apply({"params": params}, z)[2].sum()
  assert (jax.grad(of)(vectors()) == 0).all(), "vectors move by commitment alone"


def test_cosine_codebooks_look_at_directions_alone():
  config = knobs("vq", cosine=True)
  module, params = VectorQuantizer(config, 1), fresh(config)
  np.testing.assert_allclose(jnp.linalg.norm(params["codebook"], axis=-1), 1, rtol=1e-5)
  codes = lambda z: module.apply({"params": params}, z, method="codes")
  assert (codes(vectors()) == codes(vectors() * 7.0)).all()
  new = step(config, params, vectors(), 1)
  np.testing.assert_allclose(jnp.linalg.norm(new["codebook"], axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", ["codes", "entries"])
def test_cosine_codebooks_are_read_at_length_1_whatever_they_are_kept_at(method):
  config = knobs("vq", cosine=True)
  module, params = VectorQuantizer(config, 1), fresh(config)
  x = vectors() if method == "codes" else jnp.arange(7)[None, None, :, None]
  read = lambda p: module.apply({"params": p}, x, method=method)
  longer = {**params, "codebook": params["codebook"] * jnp.arange(2.0, 9.0)[:, None]}
  np.testing.assert_allclose(read(longer), read(params), rtol=1e-5)


def test_uses_are_kept_where_they_are_read():
  assert "uses" in fresh(knobs("vq", codebook_update="gradient"))
  bare = knobs("vq", codebook_update="gradient", revive_below=0.0, cosine=True)
  params = fresh(bare)
  assert set(params) == {"codebook"}
  longer = {"codebook": 3.0 * params["codebook"]}
  np.testing.assert_allclose(
    step(bare, longer, vectors(), 1)["codebook"], params["codebook"], rtol=1e-5
  )


def test_number_of_codes():
  assert codebook(knobs("kl")) == 0 and codebook(knobs("vq")) == 7
  assert codebook(knobs("fsq")) == 160 and codebook(knobs("lfq")) == 8
  assert codebook(knobs("rvq", quantizers=3)) == 343
  assert codebook(knobs("rvq", quantizers=8)) == 0  # more than one number holds
