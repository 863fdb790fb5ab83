"""A patch discriminator: how real each part of a picture looks.

Strided 4x4 convolutions (Isola et al. 2017, arXiv 1611.07004, section 6.1.2), with
group norm in place of batch norm: what it says of a picture must not depend on those
beside it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unijax.codecs.layers import Conv
from unijax.config_parts import CodecConfig

GROUPS = 8


class Discriminator(nn.Module):
  """Pixels in [-1, 1] -> logits of being real, float32 [B, h, w]."""

  config: CodecConfig
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x_BHWC):
    c, x = self.config, x_BHWC.astype(self.dtype)
    for layer in range(c.adversary_layers + 1):
      last = layer == c.adversary_layers  # it alone keeps the resolution
      width = c.adversary_width * min(2**layer, 8)
      x = Conv(width, 4, 1 if last else 2, "SAME", self.dtype, name=f"layer{layer}")(x)
      if layer:
        x = nn.GroupNorm(GROUPS, name=f"norm{layer}")(x.astype(jnp.float32))
      x = nn.leaky_relu(x.astype(self.dtype), 0.2)
    init = nn.initializers.lecun_normal()
    x = nn.Conv(1, (4, 4), dtype=self.dtype, kernel_init=init, name="logit")(x)
    return x[..., 0].astype(jnp.float32)


def hinge(real_logits, fake_logits) -> jax.Array:
  """The discriminator's loss of each picture (Lim & Ye 2017, eq. 9): float32 [B]."""
  return 0.5 * (
    nn.relu(1.0 - real_logits).mean((1, 2)) + nn.relu(1.0 + fake_logits).mean((1, 2))
  )
