"""Two real processes over loopback read exactly the rows of one."""

import json
import socket
import subprocess
import sys

import numpy as np

from tests.conftest import ROOT
from tests.data.test_parts import MIXTURES, config
from unijax.data.loader import Loader

PROGRAM = """
import json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.experimental import multihost_utils
from tests.data.test_parts import MIXTURES, config
from unijax.data.loader import Loader

assert jax.process_count() == 2
loader = Loader(config(train__batch_size=4, data__threads=2, **MIXTURES["linear"]))
part = (jax.process_index(), jax.process_count())
read = []
with loader.iterate(7, part) as batches:
  for _ in range(2):
    own = next(batches)
    assert len(own.tokens_BT) == 2
    both = multihost_utils.process_allgather(own, tiled=True)
    read.append([both.tokens_BT.tolist(), float(both.patches_BTC.sum()),
                 both.image_key_BT.tolist()])
with open(sys.argv[3], "w") as file:
  json.dump(read, file)
"""


def test_two_processes_read_what_one_reads(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  running = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, address, str(index), tmp_path / str(index)],
      cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    for index in range(2)
  ]  # fmt: skip
  try:
    errors = [process.communicate(timeout=300)[1] for process in running]
  finally:
    for process in running:
      process.kill()
  assert [process.returncode for process in running] == [0, 0], errors
  loader = Loader(config(train__batch_size=4, **MIXTURES["linear"]))
  for index in range(2):
    read = json.loads((tmp_path / str(index)).read_text())
    assert len(read) == 2
    for step, (tokens, pixels, keys) in enumerate(read, start=7):
      whole = loader.batch(step)
      assert np.array_equal(tokens, whole.tokens_BT)
      assert np.array_equal(keys, whole.image_key_BT)
      assert pixels == float(whole.patches_BTC.sum())
