"""How far apart two pictures look: distance of a trained network's activations.

After Zhang et al. 2018 (arXiv 1801.03924, eq. 1): activations are scaled to length 1 at
each place, and squared differences averaged over places and stages, with all channel
weights 1. The network is the one of `unijax.codecs.features`.
"""

import jax
import jax.numpy as jnp

from unijax.codecs import features

STAGES = 4  # of the network: strides 2, 4, 8 and 16
SMALL = 1e-6


def distance(one_BHWC, other_BHWC) -> jax.Array:
  """Distance of each pair of pictures in [-1, 1]: float32 [B]. Differentiable.

  Raises:
    WeightsError: the package with the weights is missing.
  """
  both = jnp.concatenate([one_BHWC, other_BHWC]) * 127.5 + 127.5
  total = 0.0
  for x in features.stages(features.weights(), both, STAGES):
    x = x * jax.lax.rsqrt((x * x).sum(axis=-1, keepdims=True) + SMALL)
    a, b = jnp.split(x, 2)
    total += jnp.square(a - b).sum(axis=-1).mean(axis=(1, 2))
  return total / STAGES
