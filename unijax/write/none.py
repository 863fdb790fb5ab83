"""No images: text alone is written, of text and of images that are read."""

import jax.numpy as jnp

from unijax.types import Sum
from unijax.write.base import ImageLoss, WritePath


class Nothing(WritePath):
  """The way of a model that only reads images, or does not know them."""

  metric = "image_none"

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    return ImageLoss(Sum(jnp.zeros(()), batch.image_weight_BT.sum()), {})
