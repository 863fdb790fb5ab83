"""Classifier-free guidance (Ho & Salimans 2022), limited in time and in size."""

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


def guide_slope(
  whole, no_text, no_pictures, t, *, scale, picture_scale, low, high, renorm, least
) -> jax.Array:
  """Combines two or three slopes dx/dt [B, P, C] of an image.

  Two guidances, one inside of the other, as in Deng et al. 2025: away from the row
  without its text, then away from the one without the pictures that it shows. What
  comes out may be shortened to the norm of the unguided slope, never lengthened, so
  that a large scale does not leave the range of what was trained.

  Args:
    whole, no_text: slopes of the row, and of it without its text.
    no_pictures: likewise; None takes one guidance alone.
    t: float [B], timesteps; outside [low, high] `whole` is returned.
    scale, picture_scale: of the two; 1 is off.
    renorm: as sample.guidance_renorm: which norms are compared, those of each patch or
      of an image, never of the batch; or "none".
    least: of a norm that is left, as a share.
  """

  def shortened(x, axes):
    size, own = (
      jnp.sqrt(jnp.square(y).sum(axis=axes, keepdims=True)) for y in (x, whole)
    )
    return x * jnp.clip(own / (size + 1e-8), least, 1.0)

  guided = no_text + scale * (whole - no_text)
  if renorm == "text_patch":
    guided = shortened(guided, -1)
  if no_pictures is not None:
    guided = no_pictures + picture_scale * (guided - no_pictures)
  if renorm in ("patch", "image"):
    guided = shortened(guided, -1 if renorm == "patch" else (1, 2))
  inside = ((t >= low) & (t <= high))[:, None, None]
  return jnp.where(inside, guided, whole)
