"""Losses on documents that training never sees: by noise level, and bits per byte."""

import dataclasses
import math

import jax

from unijax.config import Config
from unijax.data.document import Text
from unijax.train import tasks
from unijax.train.metrics import to_scalars


def losses(config: Config, functions, params, batches: int) -> dict[str, float]:
  """Mean losses of held-out batches.

  Args:
    config: of the run.
    functions: the compiled StepFunctions of the run.
    params: weights.
    batches: how many; batch i and its noise are the same at every call.

  Returns:
    Scalars named as in training, with the denoising loss by noise level.
  """
  return to_scalars(_merged(config, functions, params, batches)[0])


def bits_per_byte(config: Config, functions, params, batches: int) -> float | None:
  """Compression of the held-out text of the config's corpora; None without one.

  All nats of a document, its end included, over its bytes of UTF-8.
  """
  sources = tuple(s for s in config.data.sources if s.kind == "corpus")
  if not sources:
    return None
  data = dataclasses.replace(config.data, sources=sources)
  config = dataclasses.replace(config, data=data)
  metrics, loader = _merged(config, functions, params, batches)
  size = config.train.batch_size
  bytes_read = sum(
    len(part.text.encode())
    for row in range(batches * size)
    for number in loader.rows.plan.documents(row)
    for part in loader.stream[number][0].parts
    if isinstance(part, Text)
  )
  return float(metrics["text_nll"].total) / math.log(2) / bytes_read


def _merged(config: Config, functions, params, batches: int):
  loader = tasks.make_loader(config, held_out=True)
  key = jax.random.key(config.seed + 1)
  total = None
  for i in range(batches):
    batch = functions.place(loader.batch(i))
    metrics = functions.evaluate(params, batch, jax.random.fold_in(key, i))
    if total is not None:
      metrics = {name: total[name].merge(metrics[name]) for name in total}
    total = metrics
  return total, loader
