"""What a regression's error sees, and with what length it is drawn."""

import functools

import jax
import numpy as np
import pytest

from tests import small
from tests.laws import variants
from unijax.write.regression import cosine, squared

NAME = "regression-shared"


@pytest.mark.parametrize("error", ["squared", "cosine"])
def test_what_is_drawn_is_what_the_error_trains(error):
  c = variants.config(NAME, train__regression=error)
  model, params, path = small.functions(c).model, small.params(c, 0), variants.path(c)
  h = jax.random.normal(jax.random.key(0), (4, c.model.width))
  said = model.apply({"params": params}, h, method=lambda m, h: m.image_head(h))
  choose = functools.partial(path.choose, model, params, h)
  drawn = choose(1, None, path.knobs(c))
  if error == "squared":
    np.testing.assert_array_equal(drawn, said)
  else:  # the direction is learnt, the length is that of unit variance
    assert np.abs(cosine(drawn, said)).max() < 1e-5
    np.testing.assert_allclose(np.square(drawn).mean(axis=-1), 1.0, rtol=1e-5)
    assert np.abs(np.square(said).mean(axis=-1) - 1.0).min() > 1e-2


def test_errors_of_known_vectors():
  one, other = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[6.0, 8.0], [0.0, 2.0]])
  np.testing.assert_allclose(squared(one, other), [12.5, 2.5])
  np.testing.assert_allclose(cosine(one, other), [0.0, 1.0], atol=1e-6)
