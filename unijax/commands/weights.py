"""`unijax ckpt export` and `merge`: the weights of a checkpoint, in files or a run."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping

CHUNK = 2**28  # bytes of leaves read together


def add_arguments(action: Callable) -> None:
  """Adds both to the parser of `unijax ckpt`; `action` is (name, help) -> a parser."""
  for name, text in (
    ("export", "Write parameters for other libraries."),
    ("merge", "Multiply low-rank pairs into their kernels: an ordinary run."),
  ):
    sub = action(name, text)
    sub.add_argument("where", metavar="RUN[@STEP]")
    sub.add_argument(
      "--weights", choices=("ema", "params"), default="ema",
      help="averaged weights, or those of the last step",
    )  # fmt: skip
    if name == "export":
      sub.add_argument("--out", required=True, help="file.safetensors")
      sub.add_argument("--format", choices=("safetensors",), default="safetensors")
    else:
      sub.add_argument("--out", required=True, metavar="RUN", help="a new run folder")


def chunks(read: Callable, leaves: Mapping) -> Iterator[tuple]:
  """Yields (name, numbers) of leaves, checked, some megabytes at a time.

  Args:
    read: names -> shapes, to names -> arrays.
    leaves: names -> what the manifest says of them.
  """
  import jax
  import jax.numpy as jnp

  batch, total = {}, 0
  for number, (name, leaf) in enumerate(leaves.items(), 1):
    batch[name] = jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(leaf.dtype))
    total += batch[name].size * batch[name].dtype.itemsize
    if total > CHUNK or number == len(leaves):
      found = read(batch)
      yield from ((name, found[name]) for name in batch)
      batch, total = {}, 0


def export(args) -> dict:
  """Writes the parameters as one file; low-rank pairs are multiplied in."""
  import numpy as np

  from unijax.asked import asked_file
  from unijax.checkpoint import safetensors
  from unijax.checkpoint.errors import CheckpointError
  from unijax.checkpoint.start import open_run
  from unijax.checkpoint.weights import Weights

  path = asked_file(args.out, "--out", "weights.safetensors")
  reader, step = open_run(args.where)

  def write(manifest):
    saved = Weights(reader, manifest, args.weights)
    other = sorted({x.dtype for x in saved.leaves.values()} - set(safetensors.TYPES))
    if other:
      raise CheckpointError(f"safetensors has no {other[0]}")
    forms = {n: (x.shape, x.dtype) for n, x in saved.leaves.items()}

    def load():
      for name, x in chunks(saved.read, saved.leaves):
        yield name, np.asarray(x)

    about = {
      "format": "flax", "weights": args.weights, "step": str(manifest.step),
      "about": json.dumps(dict(manifest.about), sort_keys=True),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return manifest.step, len(forms), safetensors.write(path, forms, load, about)

  step, count, size = reader.first_whole(write, step)
  reader.close()
  print(f"wrote {count} arrays of step {step} to {path} ({size:,} bytes)")
  return {"step": step, "arrays": count, "bytes": size, "out": str(path)}


def merge(args) -> dict:
  """Writes a run whose kernels have taken in the pairs of another one.

  Raises:
    CheckpointError: that one has no pairs, or something is at --out.
  """
  from unijax.checkpoint import rundir
  from unijax.checkpoint.errors import CheckpointError
  from unijax.checkpoint.start import open_run
  from unijax.checkpoint.weights import Weights
  from unijax.disk import new_folder
  from unijax.interop.importing import new_place
  from unijax.train import adapters

  out = new_place(args.out)
  reader, step = open_run(args.where)

  def take(manifest):
    saved = Weights(reader, manifest, args.weights)
    if not saved.scale:
      raise CheckpointError(
        f"{reader.workdir} has no low-rank pairs (lora.rank=0): it is ordinary already"
      )
    return manifest.step, dict(chunks(saved.read, saved.leaves))

  step, arrays = reader.first_whole(take, step)
  reader.close()
  config = rundir.read_config(reader.workdir)
  tokenizer = rundir.tokenizer_path(reader.workdir, config)
  data = dataclasses.replace(config.data, tokenizer=tokenizer)
  config = adapters.without(dataclasses.replace(config, data=data))
  with new_folder(out) as folder:
    _write(folder, out, config, arrays, step, str(reader.workdir))
  count = sum(x.size for x in arrays.values())
  print(f"wrote {out}: {count:,} parameters of step {step}, without pairs")
  return {"step": step, "parameters": count, "out": str(out)}


def _write(folder, out, config, arrays: Mapping, step: int, source: str) -> None:
  """Fills a run folder with parameters, by their dotted names, at a step."""
  from flax import traverse_util

  from unijax import codecs
  from unijax.checkpoint import rundir
  from unijax.checkpoint.store import Store
  from unijax.interop.importing import CONFIG_FILE
  from unijax.train.run import versions

  codec = codecs.identity(config.data.codec)
  extra = {"versions": versions(), "codec": codec, "merged": {"from": source}}
  rundir.write_config(folder, config, extra)
  (folder / "config.py").write_text(CONFIG_FILE.format(run=out))
  store = Store(folder, about={"merged": source})
  try:
    store.save({"params": traverse_util.unflatten_dict(dict(arrays), sep=".")}, step)
    store.wait()
  finally:
    store.close()
