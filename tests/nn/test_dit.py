"""Laws of the diffusion transformer, for every style of conditioning."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import dits, small
from unijax.nn.dit import CONDITIONING, DiT, sincos
from unijax.nn.dit_blocks import Condition, CrossBlock, DoubleBlock, SingleBlock, Steer
from unijax.nn.masks import scheduled

every = pytest.mark.parametrize("style", dits.STYLES)


def moved(c, change, **knobs):
  """Largest change of the prediction of each row when the condition is changed."""
  x, t, condition = dits.case(**knobs)
  before, after = dits.run(c, x, t, condition), dits.run(c, x, t, change(condition))
  return np.abs(after - before).max(axis=(1, 2))


def test_the_styles_are_all_there():
  assert {c["dit__conditioning"] for c in dits.STYLES.values()} == set(CONDITIONING)


@every
def test_the_condition_and_the_time_decide(style):
  c = dits.config(style)
  other = dits.case(seed=1)[2].vectors_BSE
  assert (moved(c, lambda x: x.replace(vectors_BSE=other)) > 1e-2).all()
  x, t, condition = dits.case()
  assert (
    np.abs(dits.run(c, x, t, condition) - dits.run(c, x, t / 2, condition)).min() > 0
  )


@every
def test_padding_of_the_condition_is_never_read(style):
  def spoil(x):
    return x.replace(vectors_BSE=jnp.where(x.real_BS()[..., None], x.vectors_BSE, 1e3))

  whole, padded = moved(dits.config(style), spoil)
  assert whole == 0 and padded < 1e-6
  # Nor does it matter how much there is of it.
  x, t, condition = dits.case()
  short = Condition(condition.vectors_BSE[:, :3], jnp.asarray([3, 3]))
  long = condition.replace(length_B=short.length_B)
  a, b = (dits.run(dits.config(style), x, t, y) for y in (short, long))
  np.testing.assert_allclose(a, b, atol=1e-5)


@every
def test_without_a_condition_nothing_depends_on_it(style):
  c, other = dits.config(style), dits.case(seed=1)[2].vectors_BSE
  change = lambda x: x.replace(vectors_BSE=other)
  assert moved(c, change, lengths=(0, 0)).max() < 1e-6


@every
def test_the_order_of_condition_vectors_does_not_matter(style):
  c, turn = dits.config(style), jnp.asarray([2, 0, 1, 4, 3])
  whole = moved(c, lambda x: x.replace(vectors_BSE=x.vectors_BSE[:, turn]))[0]
  assert whole < 1e-5


@every
def test_rows_do_not_meet_and_places_differ(style):
  c = dits.config(style)
  x, t, condition = dits.case()
  before = dits.run(c, x, t, condition)
  after = dits.run(c, x.at[1].add(1.0), t, condition)
  np.testing.assert_array_equal(after[0], before[0])
  assert np.abs(after[1] - before[1]).min() > 0  # every patch sees every patch
  flipped = dits.run(c, x[:, ::-1], t, condition)[:, ::-1]
  assert np.abs(flipped - before).max() > 1e-3  # else positions would be missing


@every
def test_a_fresh_model_says_nothing_and_its_blocks_are_the_identity(style):
  c = dits.config(style)
  x, t, condition = dits.case()
  params = nn.unbox(dits.dit(c).init(jax.random.key(0), x, t, condition))["params"]
  assert np.abs(dits.forward(c)(params, x, t, condition)).max() == 0
  z = jax.random.normal(jax.random.key(1), (2, 9, 16))
  args = {
    CrossBlock: (z[:, :4], Condition(z[:, 4:], jnp.array([5, 3]))),
    DoubleBlock: ((z[:, :4], z[:, 4:]), jnp.array([9, 7])),
    SingleBlock: (z, jnp.array([9, 7])),
  }  # fmt: skip
  shared = jnp.zeros((2, 6, 16)) if c.dit.adaln == "shared" else None
  for kind, (streams, what) in args.items():
    block = kind(c.dit, c.model, "dense")
    rest = (what, Steer(jnp.ones((2, 16)), shared), None)
    out = block.init_with_output(jax.random.key(2), streams, *rest)[0][0]
    jax.tree.map(np.testing.assert_array_equal, out, streams)


@every
def test_gradients_reach_every_parameter_and_the_condition(style):
  c = dits.config(style)
  x, t, condition = dits.case()

  def loss(params, vectors):
    condition_ = condition.replace(vectors_BSE=vectors)
    return (dits.dit(c).apply({"params": params}, x, t, condition_) ** 2).sum()

  grad = jax.jit(jax.grad(loss, (0, 1)), compiler_options=small.QUICK)
  params, vectors = grad(dits.random_like(dits.shapes(c)), condition.vectors_BSE)
  dead = [
    jax.tree_util.keystr(path)
    for path, g in jax.tree_util.tree_leaves_with_path(params)
    if not np.abs(g).max() > 1e-9
    # A bias of all keys changes no softmax.
    and not (jax.tree_util.keystr(path).endswith("['k']['bias']") and not c.dit.qk_norm)
  ]
  assert not dead, dead
  assert (np.abs(vectors[0]).max(-1) > 0).all()
  assert np.abs(vectors[1, 3:]).max() == 0


@pytest.mark.parametrize("knob", ["remat=full", "scan_unroll=2", "dtype=bfloat16"])
def test_how_it_is_computed_changes_nothing(knob):
  name, _, value = knob.partition("=")
  value = int(value) if value.isdigit() else value
  args = dits.case()
  want = dits.run(dits.config("joint single"), *args)
  got = dits.run(dits.config("joint single", **{f"model__{name}": value}), *args)
  assert got.dtype == np.float32
  tolerance = 0.1 if name == "dtype" else 1e-5
  assert np.sqrt(np.mean((got - want) ** 2)) < tolerance * np.std(want)


def test_fast_kernels_can_take_its_intervals():
  """What `mix` hands to attention is of the kind that kernels rely on."""
  T, end = 9, jnp.asarray([9, 4, 6])
  index = jnp.broadcast_to(jnp.arange(T), (3, T))
  ends = jnp.maximum(index, end[:, None] - 1)
  assert scheduled(jnp.zeros_like(index), ends, T - 1).all()


def test_places_of_a_grid_are_all_different():
  places = np.asarray(sincos(4, 16))
  assert places.shape == (16, 16)
  apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
  assert apart[~np.eye(16, dtype=bool)].min() > 0.1
  np.testing.assert_allclose(places[:4, :8], np.repeat(places[:1, :8], 4, axis=0))


TOLD = dict(  # all that released transformers have beside the styles
  dit__dual_depth=1, dit__positions="table", dit__position_grid=5, dit__guidance=True,
  dit__pooled_width=7, dit__time_waves="sinusoid", dit__time_scale=1000.0,
)  # fmt: skip


def test_what_else_is_told_decides_and_the_middle_of_the_table_is_added():
  c = dits.config("joint", **TOLD)
  x, t, condition = dits.case()
  pooled = jax.random.normal(jax.random.key(0), (dits.B, 7))
  told = condition.replace(pooled_BE=pooled)

  def made(guidance):
    return DiT(c.dit, c.model, dits.CHANNELS, dits.GRID, guidance)

  init = made(1.0).init(jax.random.key(0), x, t, told)
  fresh = nn.unbox(init)["params"]
  out = made(1.0).apply({"params": fresh}, x, t, told)
  np.testing.assert_array_equal(out, jnp.zeros_like(out))
  params = dits.random_like(fresh)

  @functools.partial(jax.jit, static_argnums=2, compiler_options=small.QUICK)
  def run(params, told, guidance=1.0):
    return made(guidance).apply({"params": params}, x, t, told)

  before = run(params, told)
  change = lambda *args: np.abs(run(*args) - before).max()
  assert change(params, told.replace(pooled_BE=-pooled)) > 1e-2
  assert change(params, told, 1.001) > 1e-3
  spoilt = jnp.where(condition.real_BS()[..., None], condition.vectors_BSE, 1e3)
  assert change(params, told.replace(vectors_BSE=spoilt)) < 1e-5
  table = params["positions"].reshape(5, 5, -1)
  here = {(i, j) for i in (1, 2) for j in (1, 2)}  # of a grid of two, from (5 - 2) // 2
  for place in ((0, 0), (1, 3), (1, 1), (2, 2), (3, 1)):
    moved = {**params, "positions": table.at[place].multiply(-1.0).reshape(25, -1)}
    assert (change(moved, told) > 1e-3) == (place in here)


# Published parameters (SD3-medium and FLUX.1-dev: the released layouts; PixArt-alpha:
# 0.6B of the paper), and where the size is a preset.
PUBLISHED = {
  "SD3-medium": 2_028_328_000,
  "FLUX.1-dev": 11_901_408_320,
}
PUBLISHED_SIZES = {
  "SD3-medium": (
    dict(conditioning="joint", depth=24, single_depth=0, width=1536, heads=24,
         mlp_width=6144, positions="sincos", qk_norm=False),
    64, 64, 4096,
  ),
  "FLUX.1-dev": (
    dict(conditioning="joint", depth=19, single_depth=38, width=3072, heads=24,
         mlp_width=12288, positions="rope"),
    64, 64, 4096,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name, capsys):
  knobs, grid, channels, width = PUBLISHED_SIZES[name]
  c = small.config(model__dtype="bfloat16", model__remat="full")
  module = DiT(dataclasses.replace(c.dit, **knobs), c.model, channels, grid)
  condition = Condition(jnp.zeros((1, 8, width)), jnp.ones(1, jnp.int32))
  args = (jnp.zeros((1, grid**2, channels)), jnp.zeros(1), condition)
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args))
  count = sum(np.prod(x.shape, dtype=float) for x in jax.tree.leaves(shapes))
  with capsys.disabled():
    print(f"\n{name}: {count:,.0f} parameters, published {PUBLISHED[name]:,}")
  assert count == pytest.approx(PUBLISHED[name], rel=0.01)
