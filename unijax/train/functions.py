"""The compiled functions of training, on one device or laid out over a mesh."""

import bisect
import functools
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from unijax import low_rank
from unijax.checkpoint import fits
from unijax.config import Config
from unijax.scale import rules
from unijax.scale.layout import Layout
from unijax.train import adapters, stages, step, tasks
from unijax.train.optim import make_optimizer
from unijax.types import TrainState


class StepFunctions:
  """The compiled training functions of a config, and the task they share.

  Args:
    config: of the run.
    vocab: ids that the token table holds; see `tasks.Task`.
    mesh: devices to spread over; None runs on one.

  Attributes:
    task: what is trained; of a run with low-rank pairs, the same without them.
    model: the module that it trains.
    init: () -> TrainState, already in its place.
    train: (state, batch) -> (state, metrics); the old state is donated. That of the
      first stage, where there are stages; `train_at` has them all.
    evaluate: (params, batch, key) -> metrics; of parameters like those of `averaged`.
    layout: where everything lies, None on one device.

  Raises:
    ConfigError: the config does not fit the mesh; before anything is compiled.
  """

  def __init__(self, config: Config, vocab: int, mesh: Mesh | None = None):
    trained = tasks.make_task(config, vocab)
    self.task = trained.plain
    self.model = self.task.model
    self.optimizer = make_optimizer(config)
    init = functools.partial(step.init_state, config, trained, self.optimizer)
    evaluate = functools.partial(step.eval_step, self.task)
    self.layout: Layout | None = None
    state = whole = lay = None
    if mesh is not None:
      self.task.check(mesh)
      placed = rules.place(jax.eval_shape(init), _names(trained), mesh)
      self.layout = Layout(config, mesh, placed, self.task.batch_axes())
      state, whole = self.layout.state, self.layout.whole
      lay = self.layout.as_stored

    def compiled(number: int, at: Config) -> Callable:
      task, optimizer = tasks.make_task(at, vocab), make_optimizer(config, number)
      train = functools.partial(step.train_step, task, at, optimizer, lay)
      train = stages.from_the_start(config, train)
      return self._bind(jax.jit(train, donate_argnums=0, out_shardings=(state, whole)))

    self.init: Callable = self._bind(jax.jit(init, out_shardings=state))
    self._starts, self._trains = config.starts, stages.programs(config, compiled)
    self.train: Callable = self._trains[0]
    self.evaluate: Callable = self._bind(jax.jit(evaluate, out_shardings=whole))
    self._merge: Callable | None = self._merging(config, state)

  def train_at(self, step: int) -> Callable:
    """Returns `train` of the stage of a step; the same object where it is the same."""
    return self._trains[bisect.bisect_right(self._starts, step) - 1]

  def averaged(self, state: TrainState):
    """Averaged weights, as evaluations and sampling take them: without pairs."""
    if self._merge is None:
      return state.ema_params
    return self._merge(state.params, state.ema_params)

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

  def _merging(self, config: Config, places) -> Callable | None:
    """(params, averages) -> `averaged`, of a run with low-rank pairs."""
    if not config.lora.rank:
      return None

    def merge(params, ema):
      whole = low_rank.overlaid(params, ema)
      return low_rank.merged(whole, adapters.scale(config))

    if places is not None:
      places = {n: x for n, x in places.params.items() if n != low_rank.PAIRS}
    return self._bind(jax.jit(merge, out_shardings=places))

  def _bind(self, function) -> Callable:
    return function if self.layout is None else self.layout.bind(function)


def _names(task: tasks.Task):
  key = jax.eval_shape(jax.random.key, 0)
  return rules.parameter_names(jax.eval_shape(task.init_params, key))
