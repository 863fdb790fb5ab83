"""From a run to the layout of a released system: weights and config.json."""

import collections
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from unijax import config as config_lib
from unijax.checkpoint import fits, rundir, safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.start import open_run
from unijax.checkpoint.weights import Weights
from unijax.codecs import artefact, frozen
from unijax.config import Config, ConfigError
from unijax.disk import new_folder
from unijax.interop import beside, files, matching, stream, system, texts
from unijax.interop.importing import ABOUT, new_place
from unijax.interop.system import System

Say = Callable[[str], None]
Leaf = Callable[[str], np.ndarray]
DTYPES = ("float32", "bfloat16", "float16")
# Knobs that decide what a model computes, as lines of `config.difference` begin.
CODEC = (
  r"codec\.(bottleneck|width|(decoder_)?(multipliers|blocks)|groups|attention|channels"
  r"|project|draws|cosine|time_(stride|halvings)|kernel_frames|narrow_doublings"
  r"|(en|de)coder_norm)"
)
DECIDE = {  # by train.task
  "codec": re.compile(CODEC + r"|codec\.(shift|scale)"),
  "drawing": re.compile(r"dit\.(?!told)|data\.patch_size"),
}
OTHERS = re.compile(
  r"(model|vision|text|dit|bridge|denoiser)\.(?!\w*dtype)|data\.(image_frame|fit|resize)"
)
CHUNK = 2**26  # bytes of leaves that are read together, if one is not larger
KEPT = 4  # such stretches in memory: a fused weight is of three or four leaves


def export_run(
  run: str, out: str | pathlib.Path, name: str = "", weights: str = "ema",
  dtype: str = "float32", say: Say = print,
) -> dict[str, Any]:  # fmt: skip
  """Writes a run in the layout of a released system: weights and config.json.

  Args:
    run: RUN[@STEP].
    out: a folder that does not exist yet.
    name: of the system; "": the one that the run was imported from.
    weights: "ema", which are the weights themselves where there are no averages, or
      "params".
    dtype: of all that is not a whole number.
    say: prints one sentence.

  Raises:
    CheckpointError: no run, or no system is known; parameters that it has no names for.
    ConfigError: the system's files cannot say what the run's config has.
  """
  out = new_place(out)
  reader, step = open_run(run)
  try:
    config = _with_scale(reader.workdir, rundir.read_config(reader.workdir))
    chosen = system.load(name or _imported(reader.workdir))
    parts = chosen.parts()
    config = _with_codec(config) if parts else config
    content = chosen.published(config)
    _check_inverse(chosen, content, config)
    ours = chosen.released(system.leaves(config))
    plan, apart = matching.plan(chosen.table(config), ours), {}
    for part in parts.values():  # so far, codecs
      forms, names = _part(part, config)
      ours, plan, apart = ours | forms, plan | names, apart | _frozen(config)

    def write(manifest):
      order = [p.leaf for pieces in _sorted(plan).values() for p in pieces]
      stored = [path for path in dict.fromkeys(order) if path not in apart]
      trained = _leaves(reader, Weights(reader, manifest, weights), stored)

      def leaf(path):
        return apart[path] if path in apart else trained(path)

      with new_folder(out) as folder:
        size = 0
        for place, names in files.placed(plan).items():
          part = {inside: plan[name] for inside, name in names.items()}
          there = folder / chosen.file(place)
          there.parent.mkdir(exist_ok=True)
          size += _write(there, part, ours, leaf, dtype)
        beside.write(content, folder, chosen.folders(), chosen.configs())
        texts.give_back(reader.workdir, folder)
      return manifest.step, size

    step, size = reader.first_whole(write, step)
  finally:
    reader.close()
  say(f"wrote {out}: {len(plan)} tensors, {size:,} bytes, as {chosen.name} has them")
  return {
    "system": chosen.name, "out": str(out), "step": step, "tensors": len(plan),
    "bytes": size,
  }  # fmt: skip


def _imported(workdir: pathlib.Path) -> str:
  """The system that a run was imported from."""
  content = json.loads((workdir / "config.json").read_text())
  if ABOUT not in content:
    raise CheckpointError(
      f"{workdir} was trained here: say which layout it has with --system, one of "
      f"{', '.join(system.names())}"
    )
  return content[ABOUT]["system"]


def _with_scale(workdir: pathlib.Path, config: Config) -> Config:
  """The config of a codec with the scale that was measured when it was frozen."""
  if config.train.task != "codec" or config.codec.scale:
    return config
  about = artefact.read(str(workdir))
  codec = dataclasses.replace(config.codec, shift=about.shift, scale=about.scale)
  return dataclasses.replace(config, codec=codec)


def _with_codec(config: Config) -> Config:
  """The config of a run in which `codec` says what data.codec is."""
  about = artefact.read(config.data.codec)
  own = {"shift": about.shift, "scale": about.scale}
  shape = frozen.section({**about.codec, **own})
  return dataclasses.replace(config, codec=shape)


def _part(part: System, config: Config):
  """(path -> form, name -> pieces) of the codec of a run."""
  train = dataclasses.replace(config.train, task="codec")
  config = dataclasses.replace(config, train=train)
  forms = part.released(system.leaves(config))
  return forms, matching.plan(part.table(config), forms)


def _frozen(config: Config) -> dict[str, np.ndarray]:
  """Weights of the codec of a run by the paths that they have in training."""
  name = config.data.codec
  return system.named({"codec": artefact.read_weights(name, artefact.read(name))})


def _check_inverse(chosen: System, content: Mapping[str, Any], config: Config) -> None:
  """What is read back must compute the same: config.json must not lose a knob.

  Raises:
    ConfigError: naming the knobs.
  """
  back = config_lib.to_dict(chosen.config(chosen.fields(content)))
  lines = config_lib.difference(config_lib.to_dict(config), back)
  decide = DECIDE.get(config.train.task, OTHERS)
  lost = [x for x in lines if decide.match(x) and not x.startswith(rundir.FREE)]
  if lost:
    raise ConfigError(
      f"{chosen.name}: its config.json cannot say all of this run's config (here -> "
      f"there):{fits.shown(lost)}"
    )


def _write(path: pathlib.Path, plan, ours, leaf: Leaf, dtype: str) -> int:
  """Writes the arrays of a plan into one file: its bytes."""
  forms, arrays = _forms(plan, ours, dtype), stream.arrays(_sorted(plan), leaf)
  cast = ((n, _cast(x, forms[n][1])) for n, x in arrays)
  return safetensors.write(path, forms, lambda: cast, {"format": "pt"})


def _sorted(plan):
  """By leaf, so that a stacked one is read once for all its layers."""
  order = sorted(plan, key=lambda name: (plan[name][0].leaf, plan[name][0].at))
  return {name: plan[name] for name in order}


def _forms(plan, ours, dtype: str) -> dict[str, tuple[tuple[int, ...], str]]:
  """Name -> shape and dtype of all that will be written."""
  forms = {}
  for name, pieces in _sorted(plan).items():
    shapes = [p.op.shapes(tuple(ours[p.leaf].shape[len(p.at) :]))[0] for p in pieces]
    first = shapes[0]
    if len(shapes) > 1:
      first = (sum(s[0] for s in shapes), *first[1:])
    kind = np.dtype(pieces[0].op.whole or ours[pieces[0].leaf].dtype)
    forms[name] = (first, kind.name if kind.kind in "iub" else dtype)
  return forms


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
  return array.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def _leaves(reader: Reader, saved: Weights, order: Sequence[str]) -> Leaf:
  """Reads leaves of a checkpoint, some megabytes at a time in the order they are used.

  Raises:
    CheckpointError: the checkpoint has not all of them.
  """
  stored = {path: path.replace("/", ".") for path in order}
  absent = [name for name in stored.values() if name not in saved.leaves]
  if absent:
    raise CheckpointError(
      f"{reader.workdir}: no {', '.join(absent[:4])} in its checkpoint"
    )
  kept: collections.deque[dict[str, np.ndarray]] = collections.deque(maxlen=KEPT)

  def leaf(path: str) -> np.ndarray:
    for batch in kept:
      if path in batch:
        return batch[path]
    wanted, total = {}, 0
    for other in order[order.index(path) :]:
      found = saved.leaves[stored[other]]
      wanted[stored[other]] = jax.ShapeDtypeStruct(found.shape, np.dtype(found.dtype))
      total += 4 * math.prod(found.shape)
      if total >= CHUNK:
        break
    arrays = saved.read(wanted)
    kept.append({p: np.asarray(arrays[n]) for p, n in stored.items() if n in arrays})
    return kept[-1][path]

  return leaf
