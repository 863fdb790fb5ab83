"""The task of alignment: pairs in, one of the objectives out."""

import jax.numpy as jnp
from clu.metrics import Average
from jax.sharding import Mesh

from unijax.config import Config
from unijax.data.pair_loader import PairLoader
from unijax.scale import layout
from unijax.train import alignment
from unijax.train.tasks import Task
from unijax.types import Pairs, Sum


class AlignmentTask(Task):
  """Encoders of pictures, and what they agree with."""

  loader = staticmethod(PairLoader)

  def __init__(self, config: Config, vocab: int):
    super().__init__(config, vocab)
    self.objective = alignment.OBJECTIVES[config.align.objective](config, vocab)
    self.model = self.objective.module

  def init_params(self, key):
    size, length = self.config.data.image_size, self.config.text.length
    number = jnp.zeros((1,), jnp.int32)
    pixels = jnp.zeros((1, size, size, 3), jnp.uint8)
    words = jnp.zeros((1, length), jnp.int32)
    blank = Pairs(pixels, words, number, number, number)
    return self.model.init(key, *self.objective.arguments(blank))["params"]

  def total_weights(self, batch: Pairs):
    return jnp.asarray(float(len(batch.end_B)))  # pictures

  def loss(self, params, batch: Pairs, key, weights=None):
    sums = self.objective.sums(params, batch, key)
    weights = self.total_weights(batch) if weights is None else weights
    # A part of the batch counts by its share of the pictures.
    total = sums["loss"].mean() * (len(batch.end_B) / weights)
    sums["loss"] = Sum(total, jnp.ones(()))
    patches = (self.config.data.image_size // self.config.vision.patch_size) ** 2
    tokens = (batch.end_B + 1 + patches).sum()  # that the encoders read
    sums["tokens"] = Sum(tokens.astype(jnp.float32), jnp.ones(()))
    return total, {name: Average(s.value, s.weight) for name, s in sums.items()}

  def batch_axes(self) -> Pairs:
    one = ("batch",)
    return Pairs((*one, None, None, None), (*one, None), one, one, one)

  def check(self, mesh: Mesh) -> None:
    super().check(mesh)
    layout.check_towers(self.config, mesh)

  def describe(self) -> str:
    return f"pictures of {self.config.data.image_size} pixels with their captions"
