"""One training step: draw timesteps, corrupt, one forward, two losses, update.

Everything random about an image is keyed by (step, image key): the same document gets
the same noise whatever row, device or packing it lands in.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from unijax.config import Config
from unijax.diffusion import process, schedules
from unijax.nn import masks
from unijax.nn.model import Model, make_model
from unijax.train import guards, losses
from unijax.train.losses import Sum
from unijax.train.optim import make_optimizer
from unijax.types import Batch, Inputs, TrainState

Metrics = dict[str, clu_metrics.Average]


def noise(key: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
  """Draws per-image uniforms and per-patch Gaussians.

  Returns:
    (uniform_BT in (0, 1), equal over each image; epsilon_BTC).
  """

  def one(image_key, patch):
    image = jax.random.fold_in(key, image_key)
    uniform = jax.random.uniform(image, (), minval=1e-6, maxval=1.0)
    epsilon = jax.random.normal(
      jax.random.fold_in(image, patch + 1), batch.patches_BTC.shape[-1:]
    )
    return uniform, epsilon

  return jax.vmap(jax.vmap(one))(batch.image_key_BT, batch.patch_BT)


def corrupt(config: Config, key: jax.Array, batch: Batch):
  """Noises a batch.

  Returns:
    (Inputs for the model, epsilon_BTC). Each image's timestep is drawn by the law of
    the config and scaled by its noise limit.
  """
  uniform_BT, epsilon_BTC = noise(key, batch)
  is_image = batch.span_BT >= 0
  time_BT = schedules.sample_time(config.diffusion, uniform_BT) * batch.noise_limit_BT
  time_BT = jnp.where(is_image, time_BT, 0.0)
  noised_BTC = process.corrupt(
    config.diffusion.path, batch.patches_BTC, epsilon_BTC, time_BT
  )
  noised_BTC = jnp.where((batch.patch_BT >= 0)[..., None], noised_BTC, 0.0)
  start, end = masks.intervals(batch.span_BT, batch.segment_BT, config.model.image_mask)
  index = jnp.broadcast_to(
    jnp.arange(batch.tokens_BT.shape[1], dtype=jnp.int32), batch.tokens_BT.shape
  )
  inputs = Inputs(
    tokens_BT=batch.tokens_BT,
    patches_BTC=noised_BTC,
    time_BT=time_BT,
    span_BT=batch.span_BT,
    patch_BT=batch.patch_BT,
    position_BTA=batch.position_BTA,
    index_BT=index,
    start_BT=start,
    end_BT=end,
  )
  return inputs, epsilon_BTC


def loss_fn(params, model: Model, config: Config, batch: Batch, key: jax.Array):
  """The unified loss of a batch.

  Returns:
    (scalar loss, Metrics). The loss is text_nll * w_text + image_mse * w_image
    (+ z-loss), each a global sum over a global weight.
  """
  d, t = config.diffusion, config.train
  inputs, epsilon = corrupt(config, key, batch)
  logits, prediction = model.apply({"params": params}, inputs)
  space = d.predict if d.loss_target == "same" else d.loss_target
  prediction = process.convert(
    d.path, d.predict, space, prediction, inputs.patches_BTC, inputs.time_BT
  )
  target = process.to_kind(d.path, space, batch.patches_BTC, epsilon, inputs.time_BT)
  nll, log_z, accuracy = losses.text_nll(logits, batch)
  mse, levels = losses.image_mse(prediction, target, inputs.time_BT, batch)
  total = t.text_loss_weight * nll.mean() + t.image_loss_weight * mse.mean()
  total = total + t.z_loss * log_z.mean()
  metrics = {
    "loss": _average(Sum(total, jnp.ones(()))),
    "text_nll": _average(nll),
    "text_accuracy": _average(accuracy),
    "image_mse": _average(mse),
    "image_mse_by_noise": _average(levels),
    "tokens": _average(
      Sum((batch.segment_BT > 0).sum().astype(jnp.float32), jnp.ones(()))
    ),
  }
  return total, metrics


def _average(s: Sum) -> clu_metrics.Average:
  return clu_metrics.Average(total=s.value, count=s.weight)


def init_state(config: Config, model: Model, optimizer) -> TrainState:
  """Fresh parameters, optimizer state and randomness from config.seed. Traceable."""
  init_key, train_key = jax.random.split(jax.random.key(config.seed))
  inputs = blank_inputs(config, 1, config.data.seq_len)
  params = nn.unbox(model.init(init_key, inputs)["params"])
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=jax.tree.map(jnp.copy, params),
    opt_state=optimizer.init(params),
    key_data=jax.random.key_data(train_key),
    guard=guards.init_guard(config.guard),
  )


def blank_inputs(config: Config, rows: int, length: int) -> Inputs:
  """Inputs of the right shapes, for initialisation and tracing."""
  ints = jnp.zeros((rows, length), jnp.int32)
  return Inputs(
    tokens_BT=ints,
    patches_BTC=jnp.zeros((rows, length, config.patch_channels)),
    time_BT=jnp.zeros((rows, length)),
    span_BT=ints,
    patch_BT=ints,
    position_BTA=jnp.zeros((rows, length, 3), jnp.int32),
    index_BT=ints,
    start_BT=ints,
    end_BT=ints,
  )


def train_step(
  model: Model, config: Config, optimizer, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
  """One update, or none where the guard refuses it. Pure; `StepFunctions` compiles."""
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data), state.step)
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, metrics), grads = grad_fn(state.params, model, config, batch, key)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  # Early on the average would mostly remember the initial weights: warm it up.
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(config.train.ema_decay, (1.0 + step) / (10.0 + step))
  ema = optax.incremental_update(params, state.ema_params, 1.0 - decay)
  norms = {"grad_norm": optax.tree.norm(grads), "param_norm": optax.tree.norm(params)}
  ok, guard = guards.apply(config.guard, state.guard, loss, **norms)
  params, ema, opt_state = guards.select(
    ok, (params, ema, opt_state), (state.params, state.ema_params, state.opt_state)
  )
  for name, value in {**norms, **guards.counts(guard)}.items():
    metrics[name] = _average(Sum(value.astype(jnp.float32), jnp.ones(())))
  new = TrainState(state.step + 1, params, ema, opt_state, state.key_data, guard)
  return new, metrics


def eval_step(model: Model, config: Config, params, batch: Batch, key) -> Metrics:
  """Losses of a batch without an update."""
  return loss_fn(params, model, config, batch, key)[1]


class StepFunctions:
  """The compiled training functions of a config, and the model they share.

  Attributes:
    init: () -> TrainState.
    train: (state, batch) -> (state, metrics); the old state is donated.
    evaluate: (params, batch, key) -> metrics.
  """

  def __init__(self, config: Config, vocab: int):
    self.model = make_model(config, vocab)
    self.optimizer = make_optimizer(config)
    init = functools.partial(init_state, config, self.model, self.optimizer)
    train = functools.partial(train_step, self.model, config, self.optimizer)
    evaluate = functools.partial(eval_step, self.model, config)
    self.init: Callable = jax.jit(init)
    self.train: Callable = jax.jit(train, donate_argnums=0)
    self.evaluate: Callable = jax.jit(evaluate)
