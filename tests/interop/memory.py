"""How much memory an import needs beyond the model: run by a test, in its own process.

python -m tests.interop.memory write FOLDER    2 GB of weights in numbered files
python -m tests.interop.memory import FOLDER RUN
"""

import json
import pathlib
import resource
import sys
import threading
import time

import numpy as np

from unijax.checkpoint import safetensors
from unijax.interop import importing, matching, system

WIDTHS = (320, 640, 1280, 1280)  # 523 million parameters
SHARDS = 4


def write(folder: pathlib.Path) -> None:
  """Writes the release: weights of one number each, and their index."""
  chosen = system.load("autoencoder_kl")
  fields = {**chosen.sizes()["sd"], "block_out_channels": WIDTHS, "sample_size": 64}
  config = chosen.config(chosen.fields(fields))
  ours = system.leaves(config)
  forms = {}
  for name, (piece,) in matching.plan(chosen.table(config), ours).items():
    forms[name] = piece.op.shapes(tuple(ours[piece.leaf].shape))[0], "float32"
  most = sum(4 * int(np.prod(s)) for s, _ in forms.values()) / SHARDS
  files, size = [{}], 0
  for name, form in forms.items():
    if size > most:
      files.append({})
      size = 0
    files[-1][name] = form
    size += 4 * int(np.prod(form[0]))
  placed = {}
  for number, part in enumerate(files):
    file = f"model-{number}.safetensors"
    full = lambda part=part: ((n, np.full(s, 0.01, t)) for n, (s, t) in part.items())
    safetensors.write(folder / file, part, full, {"format": "pt"})
    placed |= dict.fromkeys(part, file)
  index = folder / "diffusion_pytorch_model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": placed}))
  (folder / "config.json").write_text(json.dumps(chosen.published(config)))


def used() -> int:
  """Bytes in memory that belong to this process, pages of files left out."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  found = {k: int(v.split()[0]) for k, _, v in (x.partition(":") for x in lines)
           if k in ("RssAnon", "RssFile", "RssShmem")}  # fmt: skip
  return 1024 * sum(found.values())


def measure(folder: pathlib.Path, out: pathlib.Path) -> dict[str, int]:
  """Imports, and tells the largest memory before and during it."""
  import jax

  jax.numpy.zeros(1).block_until_ready()
  before, largest, done = used(), 0, threading.Event()

  def watch():
    nonlocal largest
    while not done.is_set():
      largest = max(largest, used())
      time.sleep(0.002)

  thread = threading.Thread(target=watch)
  thread.start()
  told = importing.import_run("autoencoder_kl", folder, out, say=lambda text: None)
  done.set()
  thread.join()
  largest = max(largest, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
  return {
    "before": before, "largest": largest, "model": 4 * told["parameters"],
    "shard": max(p.stat().st_size for p in folder.glob("*.safetensors")),
  }  # fmt: skip


if __name__ == "__main__":
  if sys.argv[1] == "write":
    write(pathlib.Path(sys.argv[2]))
  else:
    print(json.dumps(measure(*map(pathlib.Path, sys.argv[2:]))))
