"""Patches from a mixture of Gaussians, predicted from the hidden state before each.

GIVT (Tschannen et al. 2024): the loss is the negative log-likelihood.
"""

import jax
import jax.numpy as jnp

from unijax.types import Sum
from unijax.write.base import ImageLoss, Knobs
from unijax.write.in_order import InOrder, shifted

CANDIDATES = 16  # draws that guidance chooses from


def log_density(mixture, x) -> jax.Array:
  """log p(x) of patches x [..., C] under `nn.heads.MixtureHead`'s output."""
  log_weights, means, log_scales = mixture
  z = (x[..., None, :] - means) * jnp.exp(-log_scales)
  log_p = -0.5 * (z**2 + jnp.log(2 * jnp.pi)) - log_scales
  return jax.nn.logsumexp(log_weights + log_p.sum(axis=-1), axis=-1)


def sample(mixture, key, temperature) -> jax.Array:
  """Draws one patch [C] of a mixture without leading axes.

  The temperature scales the standard deviations and leaves the weights; at 0 the draw
  is the mean of the component with the largest weight.
  """
  log_weights, means, log_scales = mixture
  which, around = jax.random.split(key)
  drawn = jax.random.categorical(which, log_weights)
  k = jnp.where(temperature > 0, drawn, jnp.argmax(log_weights))
  noise = jax.random.normal(around, means.shape[-1:])
  return means[k] + temperature * jnp.exp(log_scales[k]) * noise


class Mixture(InOrder):
  """The loss is in nats a channel."""

  metric = "image_nll"

  def heads(self, model, inputs, truth):
    h_BTD = model.hidden(inputs)[0]
    return h_BTD, model.image_head(shifted(h_BTD))

  def image_loss(self, output, sums, inputs, truth, batch) -> ImageLoss:
    weight = batch.image_weight_BT
    nll = -log_density(output, batch.patches_BTC) / batch.patches_BTC.shape[-1]
    nll = Sum((jnp.where(weight > 0, nll, 0.0) * weight).sum(), weight.sum())
    return ImageLoss(nll, {"image_nll": nll})

  def choose(self, model, params, h_BD, branches, key_B, knobs: Knobs):
    run = lambda m: m.image_head(h_BD)  # noqa: E731
    mixture = model.apply({"params": params}, method=run)
    if branches == 1:
      draw = lambda mixture, key: sample(mixture, key, knobs.temperature)  # noqa: E731
      return jax.vmap(draw)(mixture, key_B)
    conditional, shadow = (
      jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], mixture) for i in range(2)
    )
    one = lambda *args: _guided_sample(*args, knobs)  # noqa: E731
    return jax.vmap(one)(conditional, shadow, key_B)


def _guided_sample(conditional, shadow, key, knobs: Knobs) -> jax.Array:
  """Draws from p_c^s p_u^(1 - s), the density that guidance by s means for mixtures
  (GIVT), by choosing among draws from p_c by their weights in it."""
  keys = jax.random.split(jax.random.fold_in(key, 1), CANDIDATES)
  draws = jax.vmap(lambda key: sample(conditional, key, knobs.temperature))(keys)
  ratio = log_density(conditional, draws) - log_density(shadow, draws)
  which = jax.random.categorical(key, (knobs.guidance - 1.0) * ratio)
  return draws[which]
