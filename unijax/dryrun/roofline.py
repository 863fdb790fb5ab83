"""Floors of a step: times that it cannot beat on a chip, not times that it will take.

Three floors are taken apart: matrix products at the peak rate, memory traffic at the
peak bandwidth, and what the compiled collectives send at the peak of the network. They
may overlap, so the floor of the step is the largest of them (Williams et al. 2009).
"""

import dataclasses

from unijax.config import Config
from unijax.dryrun.chips import Chip


@dataclasses.dataclass(frozen=True)
class Work:
  """What one chip has to do in a step.

  Attributes:
    model_flops: of all chips, useful ones: no padding, visible keys, no remat.
    computed_flops: of all chips, with padding and remat; visible keys.
    hbm_bytes: of one chip.
    ici_bytes, dcn_bytes: sent by one chip.
    units: of all chips, without padding: positions of rows, or pictures.
  """

  model_flops: float
  computed_flops: float
  hbm_bytes: float
  ici_bytes: float
  dcn_bytes: float
  units: float


def floors(chip: Chip, chips: int, work: Work) -> dict:
  """Returns seconds by resource, the floor of the step, and what follows from it."""
  seconds = {
    "compute": work.computed_flops / chips / chip.flops,
    "hbm": work.hbm_bytes / chip.hbm_bandwidth,
    "ici": work.ici_bytes / chip.ici,
    "dcn": work.dcn_bytes / chip.dcn,
  }
  bound = max(seconds, key=seconds.get)
  step = seconds[bound]
  return {
    "seconds": seconds,
    "bound_by": bound,
    "step_seconds_at_least": step,
    "units_per_second_at_most": work.units / step,
    "mfu_at_most": work.model_flops / (step * chips * chip.flops),
  }


def hbm_bytes(config: Config, memory: dict, weights: int, remat: str) -> float:
  """Least traffic of a chip's memory in a step.

  Every micro-batch reads each weight it multiplies with, in the dtype of activations,
  once forward, once for the gradient of its input and once more where remat repeats
  the block; the update reads and writes the chip's part of the whole state. Activations
  are left out: how often they travel depends on fusion.

  Args:
    memory: bytes by part, as `compiled.state_bytes` gives them.
    weights: numbers in the kernels that the chip multiplies with.
    remat: what is recomputed.
  """
  passes = 2 if remat in ("none", "dots") else 3
  width = 2 if config.model.dtype == "bfloat16" else 4
  read = config.train.micro_batches * passes * width * weights
  state = memory["params"] + memory["optimizer"] + memory["ema"]
  return read + 2 * state + 2 * memory["params"]  # gradients: written, then read
