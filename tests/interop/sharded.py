"""A run divided over 8 simulated devices, exported: run by a test, in its own process.

python -m tests.interop.sharded CASE FOLDER
"""

import dataclasses
import pathlib
import sys

from tests import devices

if __name__ == "__main__":
  devices.simulate(8)

import jax
import numpy as np

from tests import conftest  # noqa: F401  (the cache of compiled programs)
from tests.interop import cases, run
from unijax import low_rank
from unijax.checkpoint import rundir
from unijax.checkpoint.store import Store
from unijax.config import Config
from unijax.interop import exporting, importing, system
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions

QUIET = lambda text: None  # noqa: E731


def divided(case: cases.Case) -> Config:
  """The config of a case, with pairs, over eight devices."""
  chosen = system.load(case.system)
  c = chosen.config(chosen.fields(case.published))
  return dataclasses.replace(
    c,
    lora=dataclasses.replace(c.lora, rank=2),
    mesh=dataclasses.replace(c.mesh, fsdp=4, tensor=2),
    data=dataclasses.replace(c.data, vocab=-(-c.data.vocab // 2) * 2),
    train=dataclasses.replace(c.train, batch_size=8),
  )


def main(name: str, folder: pathlib.Path) -> None:
  """Saves a divided state, exports it, and compares what is read back."""
  case = cases.everything()[name][1]
  config, workdir = divided(case), folder / "run"
  functions = StepFunctions(config, config.data.vocab, make_mesh(config.mesh))
  state = functions.init()
  moved = jax.tree.map(
    lambda x: x + 0.1, state.ema_params
  )  # a pair that does something
  state = state.replace(ema_params=moved)
  table = state.params["embedding"]["table"]
  assert len({str(shard.index) for shard in table.addressable_shards}) == 8
  rundir.write_config(workdir, config, {})
  store = Store(workdir, say=QUIET)
  store.save(state, 0)
  store.wait()
  store.close()
  exporting.export_run(str(workdir), folder / "out", case.system, say=QUIET)
  found = run.params(importing.look(case.system, folder / "out"))
  want = system.named(functions.averaged(state))
  assert found.keys() == want.keys()
  plain = system.named({n: x for n, x in state.params.items() if n != low_rank.PAIRS})
  changed = 0
  for path, x in want.items():
    np.testing.assert_allclose(found[path], np.asarray(x), rtol=1e-6, atol=1e-6)
    changed += not np.array_equal(found[path], np.asarray(plain[path]))
  assert changed == 7, changed  # the kernels of a block
  print("equal")


if __name__ == "__main__":
  main(sys.argv[1], pathlib.Path(sys.argv[2]))
