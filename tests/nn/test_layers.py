"""A linear map does not depend on how its kernel lies."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unijax.infer import narrow
from unijax.nn.layers import FEW_ROWS, TURNED, Linear, turned_matmul

IN, OUT = 5, 7


@pytest.mark.parametrize("shape", [(IN,), (1, 2, IN), (FEW_ROWS, IN), (2, 40, IN)])
def test_a_turned_kernel_says_the_same(shape):
  x = jax.random.normal(jax.random.key(0), shape)
  layer = Linear(OUT, ("embed", "mlp"), jnp.float32, bias=True)
  params = nn.unbox(layer.init(jax.random.key(1), x)["params"])
  params = jax.tree.map(lambda p: p + 1.0, params)
  whole = {"transformer": {"blocks": {"map": jax.tree.map(lambda p: p[None], params)}}}
  turned = narrow.apart(whole)["transformer"]["block_0"]["map"]
  assert turned[TURNED].shape == (OUT, IN) and sorted(turned) == ["bias", TURNED]
  want = layer.apply({"params": params}, x)
  got = jax.jit(layer.apply)({"params": turned}, x)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_few_rows_have_the_kernel_on_the_left():
  """Which the compiler, left alone, swaps back."""
  kernel = jnp.ones((OUT, IN))
  few, more = FEW_ROWS, FEW_ROWS + 1
  for rows, shape in ((few, f"[{OUT},{few}]"), (more, f"[{more},{OUT}]")):
    program = jax.jit(turned_matmul).lower(jnp.ones((rows, IN)), kernel).compile()
    products = [line for line in program.as_text().splitlines() if " dot(" in line]
    assert products and all(shape in line for line in products)
