"""The dry run of sampling on one chip: prefill, a token, a step of an image."""

import dataclasses

import flax.linen as nn
import jax

from unijax.config import Config, ConfigError
from unijax.data.rows import RowBuilder
from unijax.data.tokenizer import make_tokenizer
from unijax.dryrun import compiled, cycles, hlo, topology
from unijax.infer import functions as infer
from unijax.infer import narrow
from unijax.infer.functions import SampleFunctions, chunk_length
from unijax.nn.model import make_model
from unijax.train import step


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

  Raises:
    ConfigError: another task than 'unified'.
  """
  if config.train.task != "unified":
    raise ConfigError(
      f"--sampling: train.task={config.train.task!r} has no cache and writes no "
      "tokens; plan its training step instead"
    )
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
  """Shapes of all arguments, on one device; weights are narrow, as a generator's."""
  builder = RowBuilder(config, make_tokenizer(config.data.tokenizer))
  functions = SampleFunctions(config, builder.vocabulary)
  model = make_model(config, builder.vocabulary.size)
  key = jax.eval_shape(jax.random.key, 0)
  boxed = jax.eval_shape(lambda k: step.init_params(config, model, k), key)

  def of(params):
    slots = config.data.seq_len
    return infer.arguments(functions, config, builder, params, rows, slots)

  params = nn.unbox(boxed)
  params = narrow.apart(params) if config.sample.layers_apart else params
  calls = [(getattr(functions, name), given) for name, given in of(params).items()]
  dtype = config.model.dtype
  params = narrow.narrow(params, narrow.rounded(calls, dtype), dtype)
  arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), of(params)
  )
  branches = infer.branches(config)
  unit = {
    "prefill": f"a chunk of {chunk_length(config)} positions a row",
    "decode_text": "one token a row",
    "draw_image": f"one step of an image a row, {branches} branches",
  }
  return Calls(functions, arguments, unit)
