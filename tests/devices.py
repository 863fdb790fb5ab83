"""Simulated devices for a process of its own: asked for before jax is imported."""

import os

# As in the Makefile: programs that run once or twice are compiled quickly.
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def simulate(count: int) -> None:
  """Gives this process so many devices."""
  flags = f"--xla_force_host_platform_device_count={count} {QUICK}"
  os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
