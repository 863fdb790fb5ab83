"""Attention weights that people look at are those that the model mixes with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.laws import variants
from unijax.infer.looking import attention_maps
from unijax.nn import attention_dense, masks


def test_mixing_by_the_weights_is_attention():
  """Two queries a key head, and a query that sees nothing."""
  key = jax.random.key(0)
  q, k, v = (
    jax.random.normal(jax.random.fold_in(key, i), (2, 9, heads, 4))
    for i, heads in enumerate((4, 2, 2))
  )
  mask = np.array(jax.random.bernoulli(key, 0.6, (2, 9, 9)))
  mask[:, 3] = False
  weights = attention_dense.attention_weights(q, k, mask)
  mixed = jnp.einsum("bhts,bshk->bthk", weights, jnp.repeat(v, 2, axis=2))
  seen = np.arange(9) != 3
  expected = attention_dense.attend(q, k, v, mask)
  np.testing.assert_allclose(mixed[:, seen], expected[:, seen], atol=1e-6)
  assert not weights[:, :, 3].any()


@pytest.mark.parametrize("name", ["diffusion-copies", "diffusion-branch-full"])
def test_maps_are_zero_exactly_where_the_mask_hides(name):
  c, b = variants.config(name), variants.in_rows(variants.config(name), [0, 1], [3, 4])
  vocab = small.builder(c).vocabulary.size
  inputs, maps = attention_maps(c, small.lively(small.params(c, 0)), vocab, b)
  B, T = b.tokens_BT.shape
  assert maps.shape == (c.model.depth, B, c.model.heads, T, T)
  index = np.arange(T)[None]
  mask = masks.allowed(inputs.start_BT, inputs.end_BT, index, inputs.hidden_BT)
  assert ((maps > 0) == np.asarray(mask)[None, :, None]).all()
  np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
  assert (abs(maps[0] - maps[1]).max(axis=(1, 2, 3))[:2] > 1e-3).all(), (
    "one layer twice"
  )
