"""The masks of the Q-Former by gradient, and connectors."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.nn.test_vision import quick, scrambled
from unijax.nn.connectors import CONNECTORS, space_to_depth
from unijax.nn.qformer import QFormer

Q, T, P = 3, 5, 4
END = jnp.asarray([2, 4])
STACK = {"depth": 4, "width": 16, "heads": 2, "mlp_width": 24, "length": 8}


@pytest.fixture(scope="module", params=["post", "pre"])
def qformer(request):
  """(module, params, features, tokens)."""
  c = dataclasses.replace(small.config().text, norm=request.param, **STACK)
  module = QFormer(c, vocab=12, queries=Q, cross_every=2)
  features = jax.random.normal(jax.random.key(0), (2, P, 10))
  tokens = jnp.asarray([[1, 5, 2, 0, 0], [1, 3, 4, 6, 2]])
  every = lambda m: (
    h := m(features, tokens, END, "joint"), m.match(h[0]), m.words(h[1])
  )  # fmt: skip
  return module, scrambled(module, method=every), features, tokens


def sights(qformer, name: str):
  """What query and text positions see: of the text's positions, and of the picture.

  Returns:
    (text [2, Q + T, T], picture [2, Q + T]) of bool.
  """
  module, params, features, tokens = qformer

  def outputs(position, features):
    changed = {**params, "position": position}
    query, text = module.apply({"params": changed}, features, tokens, END, name)
    return jnp.concatenate([query, text], axis=1).sum(-1)

  by_place, by_picture = quick(jax.jacobian(outputs, (0, 1)))(
    params["position"], features
  )
  by_picture = np.abs(by_picture).max(axis=(3, 4))
  assert (by_picture[0, :, 1] == 0).all() and (by_picture[1, :, 0] == 0).all()
  picture = np.stack([by_picture[b, :, b] for b in range(2)]) > 0
  return np.abs(by_place).max(-1)[:, :, :T] > 0, picture


def test_apart_queries_see_the_picture_and_text_sees_text(qformer):
  text, picture = sights(qformer, "separate")
  assert picture[:, :Q].all() and not picture[:, Q:].any()
  assert not text[:, :Q].any()
  for b, end in enumerate(END):
    assert text[b, Q:, : end + 1].all()


def test_joined_all_see_all(qformer):
  text, picture = sights(qformer, "joint")
  assert picture.all()
  for b, end in enumerate(END):
    assert text[b, :, : end + 1].all()
    assert not text[b, : Q + end + 1, end + 1 :].any()  # but nobody sees padding


def test_writing_text_sees_queries_and_what_is_before_it(qformer):
  text, picture = sights(qformer, "generate")
  assert picture.all()  # text sees the picture through the queries
  assert not text[:, :Q].any()  # which do not see what is to be written
  for b, end in enumerate(END):
    real = text[b, Q : Q + end + 1, : end + 1]
    assert (real == np.tril(np.ones_like(real))).all()


def test_reading_alone_is_what_queries_are_apart(qformer):
  module, params, features, tokens = qformer
  alone = module.apply({"params": params}, features, method=module.read)
  beside, _ = module.apply({"params": params}, features, tokens, END, "separate")
  np.testing.assert_allclose(alone, beside, atol=1e-5)


def test_without_text_they_read_the_same_through_a_connector(qformer):
  """Weights of stage one are those of the connector; those of text are left out."""
  module, params, features, _ = qformer
  c = module.config
  connector = CONNECTORS["qformer"](c.width, jnp.float32, c, Q, 2)
  wanted = nn.unbox(jax.eval_shape(connector.init, jax.random.key(0), features))[
    "params"
  ]
  taken = jax.tree.map_with_path(
    lambda path, _: functools.reduce(lambda tree, k: tree[k.key], path, params),
    wanted["queries"],
  )
  out = {"kernel": jnp.eye(c.width), "bias": jnp.zeros(c.width)}
  alone = connector.apply({"params": {"queries": taken, "out": out}}, features)
  beside = module.apply({"params": params}, features, method=module.read)
  np.testing.assert_allclose(alone, beside, atol=1e-5)
  assert "text_mlp" not in str(jax.tree.structure(taken)) and "text_mlp" in str(
    jax.tree.structure(params)
  )


# -- connectors --------------------------------------------------------------------------


def connector(name: str):
  extra = {}
  if name == "resampler":
    shape = {"depth": 2, "width": 16, "heads": 2, "mlp_width": 24}
    tower = dataclasses.replace(small.config().vision, **shape)
    extra = {"config": tower, "queries": 3}
  if name == "qformer":
    stack = dataclasses.replace(small.config().text, **STACK)
    extra = {"config": stack, "queries": 3, "cross_every": 2}
  return CONNECTORS[name](24, jnp.float32, **extra)


@pytest.mark.parametrize("name", CONNECTORS)
def test_connectors_give_the_decoder_its_width(name):
  module, x = connector(name), jax.random.normal(jax.random.key(0), (2, 16, 10))
  y = quick(module.apply)({"params": scrambled(module, x)}, x)
  assert y.shape == (
    2,
    {"shuffle": 4, "merge": 4, "resampler": 3, "qformer": 3}.get(name, 16),
    24,
  )


@pytest.mark.parametrize("name", ["linear", "mlp", "shuffle"])
def test_they_mix_no_more_than_neighbours(name):
  module, x = connector(name), jax.random.normal(jax.random.key(0), (1, 16, 10))
  params = scrambled(module, x)
  outputs = lambda x: module.apply({"params": params}, x)[0].sum(-1)
  slope = quick(jax.jacobian(outputs))(x)
  seen = np.abs(slope).max(axis=(1, 3)) > 0  # [L, P]
  want = np.eye(16, dtype=bool)
  if name == "shuffle":
    corner = np.asarray([0, 2, 8, 10])
    want = np.zeros((4, 16), bool)
    for i, first in enumerate(corner):
      want[i, first + np.asarray([0, 1, 4, 5])] = True
  assert (seen == want).all()


def test_the_resampler_does_not_care_for_the_order_of_features():
  module, x = connector("resampler"), jax.random.normal(jax.random.key(0), (2, 16, 10))
  params = scrambled(module, x)
  y, z = (quick(module.apply)({"params": params}, x) for x in (x, x[:, ::-1]))
  np.testing.assert_allclose(y, z, atol=1e-5)
  assert np.abs(y[0] - y[1]).max() > 1e-3


def test_space_to_depth_wants_a_square_that_divides():
  with pytest.raises(ValueError, match="9 features are no square grid that 2 divides"):
    space_to_depth(jnp.zeros((1, 9, 4)), 2)
