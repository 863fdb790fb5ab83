"""What text and images share of a block: an entry for each value of `model.sharing`."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from unijax.config import ModelConfig
from unijax.nn.layers import BIASED, MLP, Linear
from unijax.nn.modality import GroupedLinear
from unijax.nn.moe import Experts


class Sharing(NamedTuple):
  """One way of sharing.

  Attributes:
    by_modality: whether anything depends on the modality of a position.
    routed: whether routers choose what a position goes through.
    sorted: whether the residual stream is sorted by modality, so that everything in the
      block but the mixing of positions has a copy for each.
    mlp: (config, out_scale, x_BTD, groups) -> y_BTD, the second branch; called inside a
      block, where it makes the module `mlp`.
  """

  by_modality: bool
  routed: bool
  sorted: bool
  mlp: Callable


def _mlp(c: ModelConfig, out_scale: float, linear: type[nn.Module] = Linear) -> MLP:
  dtype, bias = jnp.dtype(c.dtype), "up" in BIASED[c.bias].split()
  return MLP(c.mlp_width, c.width, dtype, out_scale, c.mlp, bias, linear, name="mlp")


def _shared(c, out_scale, x_BTD, groups):
  return _mlp(c, out_scale)(x_BTD)


def _copies_in_row_order(c, out_scale, x_BTD, groups):
  x_BTD = groups.enter(x_BTD, "act_embed")
  y_BTD = _mlp(c, out_scale, GroupedLinear)(x_BTD, groups)
  return groups.leave(y_BTD, "act_embed")


def _copies(c, out_scale, x_BTD, groups):
  return _mlp(c, out_scale, GroupedLinear)(x_BTD, groups)


def _experts(c, out_scale, x_BTD, groups):
  return Experts(c, out_scale, name="mlp")(x_BTD, groups.image_BT)


SHARING = {
  "shared": Sharing(False, False, False, _shared),
  "ffn": Sharing(True, False, False, _copies_in_row_order),
  "full": Sharing(True, False, True, _copies),  # Liang et al. 2024, algorithm 1
  "experts": Sharing(True, True, False, _experts),
}
