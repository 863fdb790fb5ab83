"""One training step of any task, and the loss of the unified one: corrupt, one
forward, two losses.

Everything random about an image is keyed by (step, image key): the same document gets
the same noise whatever row, device or packing it lands in.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from unijax import low_rank
from unijax.config import Config
from unijax.nn import logical
from unijax.nn.model import Model
from unijax.nn.moe import ROUTING
from unijax.nn.sharing import SHARING
from unijax.train import adapters, freeze, guards, routing
from unijax.types import Batch, Inputs, Sum, TrainState
from unijax.write import losses, make_write_path

Metrics = dict[str, clu_metrics.Average]


class Weights(NamedTuple):
  """Global weights that the losses of a whole batch are divided by."""

  text: jax.Array
  image: jax.Array
  load: routing.Load | None = None  # of routed experts; the batch's own if not given


def total_weights(batch: Batch) -> Weights:
  """Sums the weights of a batch, before it is cut into micro-batches."""
  return Weights(batch.text_weight_BT[:, 1:].sum(), batch.image_weight_BT.sum())


def loss_fn(
  params, model: Model, config: Config, batch: Batch, key: jax.Array, weights=None
):
  """The unified loss of a batch.

  Args:
    weights: of the batch that this one is a part of; its own if not given. The losses
      and gradients of the parts then add up to those of the whole.

  Returns:
    (scalar loss, Metrics). The loss is text_nll * w_text + image loss * w_image
    (+ z-loss of all that is asked of the logits), each a global sum over a global
    weight. What the image loss is, `model.write` decides.
  """
  t = config.train
  path = make_write_path(config, model.sizes.vocab)
  weights = weights or total_weights(batch)
  inputs, truth = path.corrupt(key, batch)

  def to_logits(h):
    return model.apply({"params": params}, h, method=model.logits)

  (h_BTD, output), routed = model.apply(
    {"params": params}, method=lambda m: path.heads(m, inputs, truth), mutable=[ROUTING]
  )
  apart = 0 if config.model.code_adapter == "none" else path.code_ids.first
  asks = path.asks(batch, truth)
  sums = losses.token_sums(to_logits, h_BTD, asks, t.loss_chunks, apart)
  image = path.image_loss(output, sums, inputs, truth, batch)
  total = t.text_loss_weight * Sum(sums["text"].nll.value, weights.text).mean()
  total += t.image_loss_weight * Sum(image.loss.value, weights.image).mean()
  if t.z_loss:  # 0 times an infinity would not be 0
    for name, asked in sums.items():
      weight = getattr(weights, name)
      total += t.z_loss * Sum(asked.log_z.value, weight).mean()
  extra, more = routing.losses(config, routed, batch, weights.load)
  total += extra
  metrics = {
    "loss": _average(Sum(total, jnp.ones(()))),
    "text_nll": _average(sums["text"].nll),
    "text_accuracy": _average(sums["text"].accuracy),
    **{name: _average(value) for name, value in image.metrics.items()},
    "tokens": _average(
      Sum((batch.segment_BT > 0).sum().astype(jnp.float32), jnp.ones(()))
    ),
    **{name: _average(s) for name, s in more.items()},
  }
  return total, metrics


def part_weights(model: Model, config: Config, params, parts: Batch, key, weights):
  """Adds what only a pass over all parts of a batch can tell: the load of experts.

  The balance loss of routed experts is a product of two averages over the batch; one of
  them, the load, is counted by a forward pass of its own before.

  Args:
    parts: a batch whose fields have an axis of parts in front.
    weights: of the whole batch.
  """
  if not SHARING[config.model.sharing].routed:
    return weights

  def load(part):
    path = make_write_path(config, model.sizes.vocab)
    inputs, _ = path.corrupt(key, part)
    _, routed = model.apply(
      {"params": params}, inputs, method=model.hidden, mutable=[ROUTING]
    )
    return routing.load(routed, part)

  loads = jax.lax.map(load, parts)
  return weights._replace(load=jax.tree.map(lambda x: x.sum(axis=0), loads))


def gradients(params, task, batch, key: jax.Array, parts: int = 1, lay=None):
  """Loss gradients of a batch of a task.

  Losses are divided by the weights of the whole batch, and noise belongs to documents:
  the number of parts changes nothing but the memory.

  Args:
    params: without boxes.
    task: a `tasks.Task`.
    batch: whole.
    key: of the step.
    parts: that the batch is run in, one after the other.
    lay: lays gradients out over the mesh as their parameters are stored, so that every
      device sums and keeps only its own share of them.

  Returns:
    (gradients, Metrics).
  """
  weights = task.total_weights(batch)
  frozen = freeze.mask(freeze.globs(task.config), params)

  def trained_loss(params, *rest):
    return task.loss(freeze.stop(frozen, params), *rest)

  def grad_fn(batch):
    fn = jax.grad(trained_loss, has_aux=True)
    grads, metrics = fn(params, batch, key, weights)
    return grads if lay is None else lay(grads), metrics

  if parts == 1:
    return grad_fn(batch)

  def split(names, x):  # part i takes rows i, i + parts, ..: every device keeps its own
    x = x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
    return logical.constrain(x, None, *names)

  batches = jax.tree.map(
    split, task.batch_axes(), batch, is_leaf=lambda x: isinstance(x, tuple)
  )
  weights = task.part_weights(params, batches, key, weights)

  def one(carry, part):
    grads, metrics = grad_fn(part)
    return jax.tree.map(jnp.add, carry, (grads, _sums(metrics))), None

  shapes = jax.eval_shape(grad_fn, batch)
  zero = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (shapes[0], _sums(shapes[1]))
  )
  if lay is not None:
    zero = (lay(zero[0]), zero[1])
  (grads, sums), _ = jax.lax.scan(one, zero, batches)
  metrics = {name: _average(s) for name, s in sums.items()}
  for name in PARTS_ADD_UP:
    metrics[name] = _average(Sum(sums[name].value, jnp.ones(())))
  return grads, metrics


PARTS_ADD_UP = ("loss", "tokens")  # metrics that are no averages over their parts


def _sums(metrics: Metrics) -> dict[str, Sum]:
  return {name: Sum(m.total, m.count) for name, m in metrics.items()}


def _average(s: Sum) -> clu_metrics.Average:
  return clu_metrics.Average(total=s.value, count=s.weight)


def init_params(config: Config, model: Model, key: jax.Array):
  """Fresh parameters in boxes that carry the logical names of their axes."""
  return model.init(key, blank_inputs(config, 1, config.data.seq_len))["params"]


def init_state(config: Config, task, optimizer) -> TrainState:
  """Fresh parameters, optimizer state and randomness from config.seed. Traceable."""
  init_key, train_key = jax.random.split(jax.random.key(config.seed))
  params = nn.unbox(task.init_params(init_key))
  opt_state = optimizer.init(params)  # first: it says what is wrong with globs
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=jax.tree.map(jnp.copy, adapters.moving(config, params)),
    opt_state=opt_state,
    key_data=jax.random.key_data(train_key),
    guard=guards.init_guard(config.guard),
  )


def blank_inputs(config: Config, rows: int, length: int) -> Inputs:
  """Inputs of the right shapes, for initialisation and tracing."""
  ints = jnp.zeros((rows, length), jnp.int32)
  encodes = config.read.pictures
  pixels = rows, config.pictures
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
    pixels_BIHWC=(
      jnp.zeros((*pixels, *config.picture_shape), jnp.uint8) if encodes else None
    ),
    feature_BT=ints if encodes else None,
    grid_BI2=jnp.zeros((*pixels, 2), jnp.int32) if config.native else None,
  )


def train_step(
  task, config: Config, optimizer, lay, state: TrainState, batch
) -> tuple[TrainState, Metrics]:
  """One update, or none where the guard refuses it. Pure; `functions` compiles it.

  `task` and `lay` are as in `gradients`; task, config and optimizer are those of the
  stage.
  """
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data), state.step)
  parts = config.train.micro_batches
  grads, metrics = gradients(state.params, task, batch, key, parts, lay)
  updates, opt_state = optimizer.update(
    grads, state.opt_state, state.params, step=state.step
  )
  params = optax.apply_updates(state.params, updates)
  params, metrics = task.update(params, metrics, key)
  frozen = freeze.mask(freeze.globs(config), state.params)
  params = freeze.keep(frozen, params, state.params)
  # Early on the average would mostly remember the initial weights: warm it up.
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(config.train.ema_decay, (1.0 + step) / (10.0 + step))
  kept = (low_rank.only(tree, state.ema_params) for tree in (frozen, params))
  ema = freeze.average(*kept, state.ema_params, decay)
  norms = {"grad_norm": optax.tree.norm(grads), "param_norm": optax.tree.norm(params)}
  ok, guard = guards.apply(config.guard, state.guard, metrics["loss"].total, **norms)
  params, ema, opt_state = guards.select(
    ok, (params, ema, opt_state), (state.params, state.ema_params, state.opt_state)
  )
  for name, value in {**norms, **guards.counts(guard)}.items():
    metrics[name] = _average(Sum(value.astype(jnp.float32), jnp.ones(())))
  new = TrainState(state.step + 1, params, ema, opt_state, state.key_data, guard)
  return new, metrics


def eval_step(task, params, batch, key) -> Metrics:
  """Losses of a batch without an update."""
  return task.loss(params, batch, key)[1]
