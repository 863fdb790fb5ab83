"""What all tests share: compiled programs, so that a second run compiles little, and
a fair part of the machine."""

import gc
import os
import pathlib

# Elsewhere too, so that an installed libtpu (extra `aot`) does not look for a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# A worker of xdist has processors of its own: the threads of two workers on the same
# ones wait for each other. Before jax, which counts them once.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
  count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
  number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % count
  own = sorted(os.sched_getaffinity(0))[number::count]
  if own:  # else there are more workers than processors
    os.sched_setaffinity(0, own)

import jax  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "jax_cache"  # ignored by git, removed by `make clean`

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def environment(devices: int) -> dict[str, str]:
  """For a process with so many simulated devices, which compiles as this one does."""
  flags = os.environ.get("XLA_FLAGS", "")
  return {
    **os.environ,
    "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
    "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "PYTHONPATH": str(ROOT),
  }  # fmt: skip


# Every compiled program takes some, and Linux allows a process 65,530: beyond, loading
# the next one is a segmentation fault.
MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 25_000


@pytest.fixture(autouse=True, scope="module")
def programs():
  """Lets go of those of earlier files before there are too many."""
  yield
  if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
    jax.clear_caches()
    gc.collect()
