"""Joining the processes of one program: one for each host of a pod."""

import jax

from unijax.config import ConfigError


def join(how: str | None) -> None:
  """Joins the other processes; must come before JAX looks at its devices.

  Args:
    how: None stays alone; 'auto' lets JAX find the cluster (TPU pods, Slurm, GKE,
      Open MPI); 'HOST:PORT,COUNT,INDEX' names the first process, how many there are,
      and which this one is, from 0.

  Raises:
    ConfigError: `how` is none of these, or the others cannot be reached.
  """
  if how is None:
    return
  arguments = {} if how == "auto" else _parse(how)
  # What CPU devices of several processes speak; accelerators have their own.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(**arguments)
  except (RuntimeError, ValueError) as error:
    fix = "name it as HOST:PORT,COUNT,INDEX" if how == "auto" else "is HOST running?"
    raise ConfigError(f"--processes={how}: {error}; {fix}") from error


def _parse(how: str) -> dict:
  parts = how.split(",")
  if len(parts) != 3 or ":" not in parts[0] or not all(p.isdigit() for p in parts[1:]):
    raise ConfigError(
      f"--processes={how!r}: expected 'auto' or HOST:PORT,COUNT,INDEX such as "
      "10.0.0.1:8476,4,0"
    )
  count, index = int(parts[1]), int(parts[2])
  if index >= count:
    raise ConfigError(
      f"--processes={how!r}: INDEX runs from 0 to {count - 1} for {count} processes"
    )
  return {
    "coordinator_address": parts[0],
    "num_processes": count,
    "process_id": index,
  }
