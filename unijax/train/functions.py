"""The compiled functions of training, on one device or laid out over a mesh."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from unijax.checkpoint import fits
from unijax.config import Config
from unijax.scale import rules
from unijax.scale.layout import Layout
from unijax.train import step, tasks
from unijax.train.optim import make_optimizer
from unijax.types import TrainState


class StepFunctions:
  """The compiled training functions of a config, and the task they share.

  Args:
    config: of the run.
    vocab: ids that the token table holds; see `tasks.Task`.
    mesh: devices to spread over; None runs on one.

  Attributes:
    task: what is trained.
    model: the module that it trains.
    init: () -> TrainState, already in its place.
    train: (state, batch) -> (state, metrics); the old state is donated.
    evaluate: (params, batch, key) -> metrics.
    layout: where everything lies, None on one device.

  Raises:
    ConfigError: the config does not fit the mesh; before anything is compiled.
  """

  def __init__(self, config: Config, vocab: int, mesh: Mesh | None = None):
    self.task = tasks.make_task(config, vocab)
    self.model = self.task.model
    self.optimizer = make_optimizer(config)
    init = functools.partial(step.init_state, config, self.task, self.optimizer)
    evaluate = functools.partial(step.eval_step, self.task)
    self.layout: Layout | None = None
    state = whole = lay = None
    if mesh is not None:
      self.task.check(mesh)
      placed = rules.place(jax.eval_shape(init), self._names(), mesh)
      self.layout = Layout(config, mesh, placed, self.task.batch_axes())
      state, whole = self.layout.state, self.layout.whole
      lay = self.layout.as_stored
    train = functools.partial(step.train_step, self.task, config, self.optimizer, lay)
    self.init: Callable = self._bind(jax.jit(init, out_shardings=state))
    self.train: Callable = self._bind(
      jax.jit(train, donate_argnums=0, out_shardings=(state, whole))
    )
    self.evaluate: Callable = self._bind(jax.jit(evaluate, out_shardings=whole))

  def place(self, batch):
    """Puts a batch (the rows of this process) on the devices."""
    if self.layout is None:
      return jax.device_put(batch)
    return self.layout.globalise(batch)

  def part(self) -> tuple[int, int] | None:
    """Returns which part of a batch's rows this process reads; None is all."""
    return None if self.layout is None else self.layout.part()

  def abstract_state(self) -> TrainState:
    """Shapes, dtypes and places of the state, without making it."""
    places = self.layout.state if self.layout else None
    return fits.abstract_state(self.init, places)

  def _names(self):
    key = jax.eval_shape(jax.random.key, 0)
    return rules.parameter_names(jax.eval_shape(self.task.init_params, key))

  def _bind(self, function) -> Callable:
    return function if self.layout is None else self.layout.bind(function)
