"""Parameters of a checkpoint as a model has them: low-rank pairs are multiplied in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from unijax import low_rank
from unijax.checkpoint import rundir
from unijax.checkpoint.integrity import Leaf, Manifest

if TYPE_CHECKING:
  from unijax.checkpoint.reader import Reader

KERNEL = ".kernel"


class Weights:
  """Parameters of one checkpoint, to be read in any portions.

  Args:
    reader: of the run.
    manifest: of a step whose files were checked.
    which: "ema", the averages if there are any, or "params".

  Attributes:
    leaves: name of each parameter -> what the manifest says of it. Those of pairs are
      not among them.
    scale: of the products of pairs; 0 where there are none.
  """

  def __init__(self, reader: "Reader", manifest: Manifest, which: str):
    self._reader, self._manifest = reader, manifest
    self._stored = manifest.stored(which)
    pairs = f"{low_rank.PAIRS}."
    self.leaves: Mapping[str, Leaf] = {
      name: manifest.leaves[leaf]
      for name, leaf in self._stored.items()
      if not name.startswith(pairs)
    }
    self.scale = 0.0
    if len(self.leaves) < len(self._stored):
      lora = rundir.read_config(reader.workdir).lora
      self.scale = lora.alpha / lora.rank

  def read(self, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Reads some of `leaves`.

    Args:
      wanted: names -> jax.ShapeDtypeStruct, with a sharding or for the first device.

    Raises:
      Damage, CheckpointError: as `Reader.read`.
    """
    asked = {self._stored[name]: x for name, x in wanted.items()}
    for name, x in wanted.items():
      for leaf in self._pair(name):
        form = self._manifest.leaves[leaf]
        asked[leaf] = jax.ShapeDtypeStruct(
          form.shape, np.dtype(form.dtype), sharding=_whole(x)
        )
    arrays = self._reader.read(self._manifest, asked)
    found = {}
    for name in wanted:
      pair = [arrays[leaf] for leaf in self._pair(name)]
      kernel = arrays[self._stored[name]]
      found[name] = low_rank.added(kernel, *pair, self.scale) if pair else kernel
    return found

  def _pair(self, name: str) -> list[str]:
    """Names of the leaves of the pair of a parameter; [] where it has none."""
    module = f"{low_rank.PAIRS}.{name.removesuffix(KERNEL)}"
    if not name.endswith(KERNEL) or f"{module}.{low_rank.A}" not in self._stored:
      return []
    return [self._stored[f"{module}.{part}"] for part in (low_rank.A, low_rank.B)]


def _whole(x):
  """The place of an array that all devices of another one hold alike."""
  place = getattr(x, "sharding", None)
  if isinstance(place, NamedSharding):
    return NamedSharding(place.mesh, PartitionSpec())
  return place
