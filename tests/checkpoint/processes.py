"""Saves, damages and restores with several processes; run as a program in each.

  python -m tests.checkpoint.processes RUN PORT COUNT NUMBER

Prints JSON: the steps that came back, whether to the bit, and what was said.
"""

import json
import pathlib
import sys

import jax
import numpy as np

if __name__ == "__main__":  # before anything that looks at devices is imported
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", *map(int, sys.argv[3:]))

from tests.checkpoint import digests, states  # noqa: E402
from unijax.checkpoint import fits, integrity  # noqa: E402
from unijax.checkpoint.store import Store  # noqa: E402


def same_parts(one, other) -> bool:
  """Whether the parts of `one` that are here are those of a whole state, `other`."""
  plain = lambda x: jax.random.key_data(x) if integrity.is_key(x) else x
  return all(
    (np.asarray(part.data) == np.asarray(plain(y))[part.index]).all()
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for part in plain(x).addressable_shards
  )


def place(x, abstract):
  """A leaf of which this process has its part."""
  key = integrity.is_key(x)
  whole = np.asarray(jax.random.key_data(x) if key else x)
  y = jax.make_array_from_callback(whole.shape, abstract.sharding, lambda i: whole[i])
  return jax.random.wrap_key_data(y) if key else y


def main(run: str) -> dict:
  mesh = jax.make_mesh((jax.device_count(),), ("a",))
  everywhere = lambda shapes: jax.tree.map(lambda x: digests.sharding(x, mesh), shapes)
  abstract = fits.abstract_state(lambda: states.state(0), everywhere)
  said = []
  store = Store(run, states.options(keep=3), say=said.append)
  for step in (3, 5):
    store.save(jax.tree.map(place, states.state(step), abstract), step)
  store.wait()
  found = [store.restore(abstract)]
  if jax.process_index() == 0:
    (pathlib.Path(run) / "checkpoints" / "5" / "state" / "_METADATA").unlink()
  found.append(store.restore(abstract))
  steps = [int(x.step) for x in found]
  equal = [same_parts(x, states.state(s)) for x, s in zip(found, steps, strict=True)]
  store.close()
  return {"steps": steps, "equal": equal, "said": said, "left": store.steps()}


if __name__ == "__main__":
  print(json.dumps(main(sys.argv[1])), flush=True)
