"""The dry run of sampling on one chip: prefill, a token, a step of an image."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unijax.config import Config
from unijax.data.tokenizer import make_tokenizer, vocabulary_of
from unijax.dryrun import compiled, cycles, hlo, topology
from unijax.infer.functions import SampleFunctions, chunk_length
from unijax.infer.text_sampling import text_sampling
from unijax.nn.cache import make_cache
from unijax.nn.model import make_model
from unijax.train import step
from unijax.types import Batch
from unijax.write.base import Span


@dataclasses.dataclass(frozen=True)
class Calls:
  """The three functions with the arguments that sampling would give them.

  Attributes:
    arguments: by name of the function; everything is a shape on one device.
    unit: what one execution of its loop, or of the whole, produces.
  """

  functions: SampleFunctions
  arguments: dict[str, tuple]
  unit: dict[str, str]


def plan(config: Config, name: topology.Name, rows: int) -> dict:
  """Compiles the three functions for one chip; memory and the compiler's estimate.

  Loops whose length is an argument (tokens to write, steps of an image) are counted
  once, so cycles are those of one token and one step of all rows.

  Args:
    config: of the run.
    name: the topology, of which one chip is used.
    rows: prompts that are decoded together.
  """
  device = topology.devices(name)[0]
  calls = abstract_calls(config, rows, jax.sharding.SingleDeviceSharding(device))
  report = {
    "topology": f"one chip of {name}", "rows": rows, "slots": config.data.seq_len,
    "jax": jax.__version__, "fits": True, "functions": {},
    "memory_limit_bytes": int(name.chip.hbm) if name.chip else None,
  }  # fmt: skip
  for function, arguments in calls.arguments.items():
    jitted = getattr(calls.functions, function)
    known = {
      "params": compiled.device_bytes(arguments[0]),
      "cache": compiled.device_bytes(arguments[1]),
      "inputs": compiled.device_bytes(arguments[2:]),
    }
    outcome = compiled.run(
      lambda jitted=jitted, arguments=arguments: jitted.lower(*arguments),
      known, f"{function} for {name}",
    )  # fmt: skip
    entry = {
      "unit": calls.unit[function], "fits": outcome.fits,
      "memory_bytes": outcome.memory,
      "compile_seconds": round(outcome.seconds, 1), "needs_bytes": outcome.needs,
    }  # fmt: skip
    if outcome.fits:
      executed, unknown = hlo.schedule(hlo.parse(outcome.text))
      entry |= {"cycles": cycles.estimate(executed), "loops_of_unknown_length": unknown}
    report["functions"][function] = entry
    report["fits"] &= outcome.fits
  return report


def abstract_calls(config: Config, rows: int, place) -> Calls:
  """Shapes of all arguments, on one device."""
  words = vocabulary_of(config, make_tokenizer(config.data.tokenizer))
  functions = SampleFunctions(config, words)

  def placed(tree):
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=place), tree
    )

  def shape(*sizes, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=place)

  model = make_model(config, words.size)
  key = jax.eval_shape(jax.random.key, 0)
  boxed = jax.eval_shape(lambda k: step.init_params(config, model, k), key)
  params = placed(nn.unbox(boxed))
  slots = config.data.seq_len
  cache = placed(jax.eval_shape(lambda: make_cache(config, rows, slots)))
  train = dataclasses.replace(config.train, batch_size=rows)
  fields = dict.fromkeys((f.name for f in dataclasses.fields(Batch)), place)
  at = Batch(**{**fields, "hidden_BT": None})  # what is sampled hides nothing
  chunk = compiled.abstract_batch(
    dataclasses.replace(config, train=train), at, chunk_length(config)
  )
  keys = jax.ShapeDtypeStruct((rows,), key.dtype, sharding=place)
  branches = 1 if config.sample.guidance == 1.0 else 2
  span = Span(
    shape(rows, config.image_positions + 1), shape(rows, config.image_positions + 1, 3)
  )
  caches, path = (cache,) * branches, functions.path
  state = placed(jax.eval_shape(path.begin, caches, keys))
  arguments = {
    "prefill": (params, cache, chunk),
    "decode_text": (
      params, cache, shape(rows, words.size, dtype=jnp.float32), shape(rows), keys,
      shape(rows), shape(rows, dtype=jnp.bool_), shape(),
      placed(text_sampling(config.sample)),
      *((shape(rows, config.text_block),) if config.text_block else ()),
    ),
    "draw_image": (
      params, caches, state, (span,) * branches, keys, shape(), shape(),
      placed(jax.eval_shape(lambda: path.knobs(config))),
    ),
  }  # fmt: skip
  unit = {
    "prefill": f"a chunk of {chunk_length(config)} positions a row",
    "decode_text": "one token a row",
    "draw_image": f"one step of an image a row, {branches} branches",
  }
  return Calls(functions, arguments, unit)
