"""The loss of a model that only draws: one timestep and one noise a picture."""

import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics

from unijax.config import Config, ConfigError
from unijax.diffusion import process, schedules
from unijax.nn.text_to_image import TextToImage, given
from unijax.types import Drawings, Sum
from unijax.write import losses
from unijax.write.diffusion import picture_noise


def init_params(config: Config, model: TextToImage, key: jax.Array):
  """Fresh parameters in boxes that carry the logical names of their axes."""
  x = jnp.zeros((1, config.patches, config.patch_channels))
  if model.text is None:
    told = given(config.dit, 1, 1)
    return model.init(key, x, jnp.zeros(1), told, method=model.predict)["params"]
  tokens = jnp.zeros((1, config.data.caption_length), jnp.int32)
  one = jnp.ones(1, jnp.int32)
  return model.init(key, x, jnp.zeros(1), tokens, one)["params"]


def total_weights(batch: Drawings) -> jax.Array:
  """Pictures of a batch, before it is cut into micro-batches."""
  return jnp.float32(batch.length_B.shape[0])


def loss_fn(
  params, model: TextToImage, config: Config, batch: Drawings, key: jax.Array, weights
):
  """The denoising loss, a mean over pictures and all of their numbers.

  Args:
    key: of the step; a picture's noise depends on it and its own key alone.
    weights: pictures of the batch that this one is a part of.

  Returns:
    (scalar loss, metrics).

  Raises:
    ConfigError: there is no encoder of captions.
  """
  if model.text is None:
    raise ConfigError(
      "dit.told: 'vectors' come from an encoder that is not here, and sources have "
      "captions: train with dit.told='captions', which has an encoder of its own "
      "(--init-allow=missing), or as the decoder of a bridge"
    )
  d = config.diffusion
  patches = batch.patches_BPC
  uniform_B, epsilon = picture_noise(key, batch.key_B, patches.shape[1:])
  time_B = schedules.sample_time(d, uniform_B)
  time_BP = jnp.broadcast_to(time_B[:, None], patches.shape[:2])
  noised = process.corrupt(d.path, patches, epsilon, time_BP)
  out = model.apply({"params": params}, noised, time_B, batch.tokens_BS, batch.length_B)
  error_BP = denoising_error(config, out, noised, patches, epsilon, time_BP)
  error_B, one_B = error_BP.mean(axis=1), jnp.ones_like(time_B)
  mse = Sum(error_B.sum(), total_weights(batch))
  levels = losses.by_noise(error_B[:, None], time_B[:, None], one_B[:, None])
  loss = Sum(mse.value, weights).mean()
  positions = jnp.float32(patches.shape[0] * patches.shape[1]) + batch.length_B.sum()
  sums = {
    "loss": Sum(loss, jnp.ones(())),
    "image_mse": mse,
    "image_mse_by_noise": levels,
    "tokens": Sum(positions, jnp.ones(())),
  }
  metrics = {n: clu_metrics.Average(s.value, s.weight) for n, s in sums.items()}
  return loss, metrics


def denoising_error(config: Config, prediction, noised, clean, epsilon, time):
  """Squared error of a prediction in the space of the config's loss.

  Args:
    prediction, noised, clean, epsilon: [..., C].
    time: [...].

  Returns:
    [...], a mean over the channels.
  """
  d = config.diffusion
  space = d.predict if d.loss_target == "same" else d.loss_target
  prediction = process.convert(d.path, d.predict, space, prediction, noised, time)
  target = process.to_kind(d.path, space, clean, epsilon, time)
  return jnp.square(prediction - target).mean(axis=-1)
