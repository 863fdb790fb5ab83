"""Topologies by name: described TPU slices, and simulated CPU devices.

`v5p:8x8x16` is 8 x 8 x 16 = 1,024 chips, as the TPU compiler names them. Cloud names
count TensorCores on v5p (v5p-128 is 64 chips, v5p:4x4x4) and chips on v5e and v6e.
"""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re

from unijax.config import ConfigError
from unijax.dryrun.chips import CHIPS, Chip

# libtpu asks a metadata server and takes a lock unless told that no TPU is there.
ENVIRONMENT = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # of this host; any known one keeps it quiet
  "TPU_MIN_LOG_LEVEL": "3",
  "JAX_PLATFORMS": "cpu",
}
EXAMPLES = "v5e:4x4, v6e:16x16, v5p:8x8x16, or cpu:8 for simulated devices"


@dataclasses.dataclass(frozen=True)
class Name:
  """A topology as it is written.

  Attributes:
    chip: None for simulated devices.
    shape: chips along each dimension of one slice.
  """

  text: str
  chip: Chip | None
  shape: tuple[int, ...]
  slices: int

  @property
  def devices(self) -> int:
    """Devices of all slices."""
    return math.prod(self.shape) * self.slices

  def __str__(self) -> str:
    return self.text if self.slices == 1 else f"{self.slices} x {self.text}"


def parse(text: str, slices: int = 1) -> Name:
  """Reads `v5p:8x8x16` or `cpu:8`.

  Raises:
    ConfigError: unknown chip, or sizes that no slice of it has.
  """
  kind, _, sizes = text.partition(":")
  if kind not in (*CHIPS, "cpu"):
    raise ConfigError(
      f"--topology={text}: unknown chip {kind!r}; known: {', '.join(CHIPS)}, cpu "
      f"(for example {EXAMPLES})"
    )
  if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
    raise ConfigError(
      f"--topology={text}: expected sizes after {kind + ':'!r}, such as {EXAMPLES}"
    )
  if slices < 1:
    raise ConfigError(f"--slices={slices}: must be at least 1")
  shape = tuple(int(s) for s in sizes.split("x"))
  if kind == "cpu":
    return Name(text, None, (math.prod(shape),), slices)
  chip = CHIPS[kind]
  if len(shape) != chip.dimensions:
    raise ConfigError(
      f"--topology={text}: {kind} slices have {chip.dimensions} dimensions, got "
      f"{len(shape)}"
    )
  for size, host in zip(shape, chip.host, strict=True):
    if size % host:
      raise ConfigError(
        f"--topology={text}: {kind} hosts hold {'x'.join(map(str, chip.host))} chips, "
        "and every size must be a multiple of its host's"
      )
  return Name(text, chip, shape, slices)


def prepare(name: Name) -> None:
  """Sets what must be set before the first device is asked for.

  Raises:
    ConfigError: libtpu is missing, or JAX has already started without these settings.
  """
  import jax
  from jax._src import xla_bridge

  started = xla_bridge.backends_are_initialized()
  if name.chip is None:
    if started and jax.device_count() < name.devices:
      raise ConfigError(
        f"--topology={name}: JAX already runs with {jax.device_count()} devices here: "
        "start a new process"
      )
    if not started:
      os.environ["JAX_PLATFORMS"] = "cpu"
      jax.config.update("jax_platforms", "cpu")
      jax.config.update("jax_num_cpu_devices", name.devices)
    return
  if importlib.util.find_spec("libtpu") is None:
    raise ConfigError(
      f"--topology={name}: the TPU compiler is not installed: "
      f"pip install 'unijax[aot]' (that is, {required_libtpu()}), "
      f"or use --topology=cpu:{name.devices}"
    )
  for variable, value in ENVIRONMENT.items():
    os.environ.setdefault(variable, value)
  if not started:
    jax.config.update("jax_platforms", "cpu")


def required_libtpu() -> str:
  """Returns the requirement of the installed jax, such as 'libtpu==0.0.42.*'."""
  lines = importlib.metadata.requires("jax") or []
  found = [x.partition(";")[0].strip() for x in lines if x.startswith("libtpu")]
  return found[0] if found else "libtpu"


def devices(name: Name) -> list:
  """Returns the devices of a topology, slice by slice; call `prepare` first.

  Raises:
    ConfigError: the compiler does not know such a slice; says why.
  """
  import jax
  from jax.experimental import topologies

  if name.chip is None:
    return jax.devices("cpu")[: name.devices]
  options = {"num_slices": name.slices} if name.slices > 1 else {}
  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=name.text, **options
    )
  except Exception as error:  # jaxlib raises bare RuntimeErrors of several kinds
    raise ConfigError(f"--topology={name}: {error}") from error
  return list(described.devices)
