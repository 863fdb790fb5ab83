"""Classifier-free guidance (Ho & Salimans 2022), limited in time and rescaled."""

import jax
import jax.numpy as jnp


def guide(conditional, unconditional, t, *, scale, low, high, rescale) -> jax.Array:
  """Combines two x0 predictions [B, P, C]: u + scale (c - u).

  Guidance is linear in the prediction at a fixed x_t, so doing it on x0 is doing it
  on epsilon, v or velocity.

  Args:
    t: float [B], timesteps; outside [low, high] the conditional one is returned
      (Kynkaanniemi et al. 2024).
    rescale: 0 to 1, how far each sample's standard deviation is pulled back to the
      conditional one (Lin et al. 2024, eq. 15-16). Taken per sample, never over the
      batch.
  """
  guided = unconditional + scale * (conditional - unconditional)
  spread = jnp.std(conditional, axis=(1, 2), keepdims=True)
  ratio = spread / jnp.maximum(jnp.std(guided, axis=(1, 2), keepdims=True), 1e-6)
  guided = guided * (rescale * ratio + 1.0 - rescale)
  inside = ((t >= low) & (t <= high))[:, None, None]
  return jnp.where(inside, guided, conditional)
