"""How the state and the batches of a config lie on its mesh."""

import dataclasses
import functools
import math

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unijax.config import Config, ConfigError
from unijax.nn import logical
from unijax.scale import rules
from unijax.scale.mesh import row_shards


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh with the place of everything on it.

  Attributes:
    mesh: the devices.
    placed: TrainState of `rules.Placement`.
    axes: a batch whose fields are the logical names of their axes, rows first.
  """

  config: Config
  mesh: Mesh
  placed: object
  axes: object

  @functools.cached_property
  def state(self):
    """TrainState of NamedShardings."""
    return rules.shardings(self.placed, self.mesh)

  @functools.cached_property
  def whole(self) -> NamedSharding:
    """Of what every device holds alike."""
    return NamedSharding(self.mesh, PartitionSpec())

  def as_stored(self, params):
    """Lays a tree like the parameters out as they are. Traceable."""
    return jax.lax.with_sharding_constraint(params, self.state.params)

  def batch(self):
    """Returns a batch of NamedShardings."""
    with self.use():
      return jax.tree.map(
        lambda names: NamedSharding(self.mesh, logical.spec(*names)),
        self.axes, is_leaf=lambda x: isinstance(x, tuple),
      )  # fmt: skip

  def use(self):
    """Context in which functions are traced and called."""
    return logical.use(self.mesh, rules.RULES)

  def bind(self, function):
    """Wraps a jitted function so that it is traced, lowered and called in `use`."""
    return _Bound(function, self)

  def part(self) -> tuple[int, int]:
    """Returns (index, count): which part of a batch's rows this process holds.

    Raises:
      ConfigError: the rows of this process are not one part of equal parts.
    """
    size = self.config.train.batch_size
    with self.use():
      sharding = NamedSharding(self.mesh, logical.spec("batch"))
    where = sharding.addressable_devices_indices_map((size,)).values()
    rows = [index[0].indices(size) for index in where]
    start, stop = min(r[0] for r in rows), max(r[1] for r in rows)
    held = {row for r in rows for row in range(*r)}
    count = size // (stop - start)
    if len(held) != stop - start or size % (stop - start) or start % (stop - start):
      raise ConfigError(
        f"mesh: process {jax.process_index()} would hold rows {sorted(held)} of "
        f"{size}, which are not one of equal parts: use mesh degrees that keep the "
        "devices of a process together"
      )
    return start // (stop - start), count

  def globalise(self, batch):
    """Makes the local rows of `part`, or all rows, into global arrays on the mesh."""
    size = self.config.train.batch_size
    index, count = self.part()
    first = 0 if len(jax.tree.leaves(batch)[0]) == size else index * (size // count)

    def one(x, sharding):
      x = np.asarray(x)

      def shard(where):
        rows = where[0].indices(size)
        return x[(slice(rows[0] - first, rows[1] - first), *where[1:])]

      return jax.make_array_from_callback((size, *x.shape[1:]), sharding, shard)

    with jax.transfer_guard_host_to_device("allow"):  # here it is meant
      return jax.tree.map(one, batch, self.batch())


class _Bound:
  """A compiled function that is traced, lowered and called with a mesh in use.

  On simulated devices it waits for the result: they share threads, and two programs
  with collectives could wait for each other for ever.
  """

  def __init__(self, function, layout: Layout):
    self.function, self.layout = function, layout

  def __call__(self, *args):
    with self.layout.use():
      out = self.function(*args)
    if jax.default_backend() == "cpu":
      jax.block_until_ready(out)
    return out

  def lower(self, *args):
    with self.layout.use():
      return self.function.lower(*args)

  def eval_shape(self, *args):
    with self.layout.use():
      return self.function.eval_shape(*args)

  def __getattr__(self, name):
    return getattr(self.function, name)


def check_rows(config: Config, mesh: Mesh) -> None:
  """Checks that rows and micro-batches divide over the mesh.

  Raises:
    ConfigError: naming the knobs.
  """
  rows, parts = config.train.batch_size, row_shards(mesh)
  micro = config.train.micro_batches
  if rows % (parts * micro):
    raise ConfigError(
      f"train.batch_size: {rows} rows must be a multiple of {parts} (mesh.replica x "
      f"fsdp x expert) x {micro} (train.micro_batches): "
      f"{-(-rows // (parts * micro)) * parts * micro} would do"
    )


def check_decoder(config: Config, mesh: Mesh) -> None:
  """Checks that positions and heads divide over the mesh.

  Raises:
    ConfigError: naming the knobs.
  """
  context = mesh.shape["context"]
  if config.data.seq_len % context:
    raise ConfigError(
      f"data.seq_len: {config.data.seq_len} must be a multiple of "
      f"mesh.context={context}"
    )
  m = config.model
  check_heads(mesh, "model", heads=m.heads, kv_heads=m.kv_heads)
  if config.read.encodes:
    check_heads(mesh, "vision", heads=config.vision.heads)
  if config.slots:
    check_heads(mesh, "dit", heads=config.dit.heads)
  if config.denoiser.depth:
    d = config.denoiser
    check_heads(mesh, "denoiser", heads=d.heads, kv_heads=d.kv_heads)


def check_heads(mesh: Mesh, section: str, **heads: int) -> None:
  """Checks that the heads of a section of the config divide over the mesh.

  Raises:
    ConfigError: naming the knobs.
  """
  tensor = mesh.shape["tensor"]
  for name, count in heads.items():
    if count % tensor:
      raise ConfigError(
        f"{section}.{name}: {count} must be a multiple of mesh.tensor={tensor}; at "
        f"most {math.gcd(count, tensor)} fits, and the rest can go to mesh.fsdp"
      )


def check_towers(config: Config, mesh: Mesh) -> None:
  """Checks that the heads of encoders divide over the mesh.

  Raises:
    ConfigError: naming the knobs.
  """
  tensor = mesh.shape["tensor"]
  for name, heads in (("vision", config.vision.heads), ("text", config.text.heads)):
    if heads % tensor:
      raise ConfigError(
        f"{name}.heads: {heads} must be a multiple of mesh.tensor={tensor}; at most "
        f"{math.gcd(heads, tensor)} fits, and the rest can go to mesh.fsdp"
      )
