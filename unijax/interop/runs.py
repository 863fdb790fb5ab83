"""From a released model to a run folder, and from a run back to a released layout."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from unijax import codecs
from unijax.checkpoint import rundir, safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.start import open_run
from unijax.checkpoint.store import Store
from unijax.codecs import artefact
from unijax.config import Config, ConfigError
from unijax.interop import files, keymap, stream, system
from unijax.interop.system import System
from unijax.train import codec_export
from unijax.train.run import versions

Say = Callable[[str], None]
ABOUT = "imported"  # entry of config.json
DTYPES = ("float32", "bfloat16", "float16")
CONFIG_FILE = '''"""The config of this imported run, to train from it:

  unijax train --config={run}/config.py --init-from={run} --workdir=OTHER
"""

import pathlib

from unijax.checkpoint import rundir


def get_config():
  """Returns what config.json beside this file says."""
  return rundir.config_dict(pathlib.Path(__file__).parent)
'''


@dataclasses.dataclass(frozen=True)
class Found:
  """A released model whose headers fit a config of ours.

  Attributes:
    system: that it is of.
    config: of ours.
    theirs: name -> entry of its files.
    match: of the two.
    ours: path -> shape and dtype of a parameter.
  """

  system: System
  config: Config
  theirs: Mapping[str, files.Entry]
  match: keymap.Match
  ours: Mapping[str, jax.ShapeDtypeStruct]

  def table(self) -> keymap.Table:
    """The keys they were matched by."""
    return self.system.table(self.config)


def look(name: str, path: str | pathlib.Path, size: str = "") -> Found:
  """Matches a released model with a config of ours, from headers alone.

  Args:
    name: of the system, or the path of its file.
    path: of the weights: a file, an index, or the folder of a release.
    size: of those that the system lists, for weights without a config.json.

  Raises:
    CheckpointError: the files are damaged, or are not what the config says; all that is
      missing, unknown and misfits is listed.
    ConfigError: no such system or size; a released config that cannot be done.
  """
  path = pathlib.Path(path)
  chosen = system.load(name)
  theirs = files.open_weights(path)
  fields = chosen.fields(_published(chosen, path, size), theirs)
  config = chosen.config(fields)
  ours = system.leaves(config)
  match = keymap.match(chosen.table(config), ours, theirs)
  if not match.report.fits:
    raise CheckpointError(
      f"{path} is not a whole {chosen.name} of this config: {match.report.text()}"
    )
  stream.check_dropped(chosen.table(config), match.report.dropped, theirs)
  return Found(chosen, config, theirs, match, ours)


def _published(chosen: System, path: pathlib.Path, size: str) -> dict[str, Any]:
  """Fields of config.json, or those of a size where there is none."""
  written, sizes = system.published_json(path), chosen.sizes()
  if size and size not in sizes:
    raise ConfigError(f"{chosen.name} has no size {size!r}; known: {', '.join(sizes)}")
  if not written and not size:
    raise ConfigError(
      f"no config.json beside {path}: say which it is with --size, one of "
      f"{', '.join(sizes)}"
    )
  return written or dict(sizes[size])


def import_run(
  name: str, path: str | pathlib.Path, out: str | pathlib.Path, size: str = "",
  say: Say = print,
) -> dict[str, Any]:  # fmt: skip
  """Writes the run folder of a released model; nothing is left of one that fails.

  The arguments are those of `look`, which also says what is raised, and:
    out: a folder that does not exist yet.
    say: prints one sentence.

  Returns:
    What was done, for RESULT.
  """
  out = pathlib.Path(out)
  with _new_folder(out) as folder:
    found = look(name, path, size)
    report = found.match.report
    say(f"{path}: {report.text()}")
    params = system.nested(dict(_read(found, say)))
    about = {
      "system": found.system.name, "from": pathlib.Path(path).name,
      "tensors": len(report.consumed), "dropped": report.dropped,
    }  # fmt: skip
    identity = codecs.identity(found.config.data.codec)
    extra = {"versions": versions(), "codec": identity, ABOUT: about}
    rundir.write_config(folder, found.config, extra)
    (folder / "config.py").write_text(CONFIG_FILE.format(run=out))
    if found.config.train.task == "codec":
      whole = jax.device_get(params["codec"])
      codec_export.write(folder, found.config, whole, None, 0)
    store = Store(folder, about={ABOUT: found.system.name}, say=say)
    try:
      store.save({"params": params}, 0)
      store.wait()
    finally:
      store.close()
  count = sum(x.size for x in jax.tree.leaves(params))
  say(f"wrote {out}: {count:,} parameters; train from it with --init-from={out}")
  return {
    "system": found.system.name, "out": str(out), "parameters": count,
    "tensors": len(report.consumed), "dropped": len(report.dropped),
  }  # fmt: skip


def _read(found: Found, say: Say) -> Iterator[tuple[str, jax.Array]]:
  """Reads all leaves, telling of every tenth of the way."""
  told = -1

  def tell(number: int, count: int, leaf: str) -> None:
    nonlocal told
    if count >= 50 and number * 10 // count > told:
      told = number * 10 // count
      say(f"{number} of {count} parameters read; next {leaf}")

  return stream.read(found.match.pieces, found.theirs, found.ours, tell)


@contextlib.contextmanager
def _new_folder(out: pathlib.Path):
  """A place that becomes `out` once all is in it, and vanishes if not all is.

  Raises:
    CheckpointError: `out` is there already.
  """
  if out.exists():
    raise CheckpointError(f"{out} is there already: name another --out, or remove it")
  out.parent.mkdir(parents=True, exist_ok=True)
  folder = out.with_name(f"{out.name}.tmp")
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  try:
    yield folder
    folder.rename(out)
  finally:
    shutil.rmtree(folder, ignore_errors=True)


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
  reader, step = open_run(run)
  try:
    config = _with_scale(reader.workdir, rundir.read_config(reader.workdir))
    chosen = system.load(name or _imported(reader.workdir))
    content = chosen.published(config)
    table, ours = chosen.table(config), system.leaves(config)
    _check_inverse(chosen, content, ours)
    plan = keymap.plan(table, ours)

    def write(manifest):
      leaf = _leaves(reader, manifest, weights)
      forms, arrays = _forms(plan, ours, dtype), stream.arrays(_sorted(plan), leaf)
      cast = ((n, _cast(x, forms[n][1])) for n, x in arrays)
      with _new_folder(pathlib.Path(out)) as folder:
        path = folder / chosen.file()
        size = safetensors.write(path, forms, lambda: cast, {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
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


def _check_inverse(chosen: System, content, ours) -> None:
  """What is read back must be what is there: a file must not lose a knob."""
  back = system.leaves(chosen.config(system.Fields(content, chosen.name)))
  shapes = [{n: x.shape for n, x in side.items()} for side in (ours, back)]
  if shapes[0] != shapes[1]:
    lost = sorted({n for n, _ in shapes[0].items() ^ shapes[1].items()})
    raise ConfigError(
      f"{chosen.name} has no config.json for this run: {', '.join(lost[:4])} would "
      "differ"
    )


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
    kind = np.dtype(ours[pieces[0].leaf].dtype)
    forms[name] = (first, kind.name if kind.kind in "iub" else dtype)
  return forms


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
  return array.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def _leaves(reader: Reader, manifest, weights: str) -> Callable[[str], np.ndarray]:
  """Reads leaves of a checkpoint, keeping the few that were read last."""
  prefix = "params."
  if weights == "ema" and any(n.startswith("ema_params.") for n in manifest.leaves):
    prefix = "ema_params."
  kept: dict[str, np.ndarray] = {}

  def leaf(path: str) -> np.ndarray:
    if path not in kept:
      name = prefix + path.replace("/", ".")
      if name not in manifest.leaves:
        raise CheckpointError(f"{reader.workdir}: its checkpoint has no {name}")
      found = manifest.leaves[name]
      want = jax.ShapeDtypeStruct(found.shape, np.dtype(found.dtype))
      while len(kept) >= 4:  # a fused weight is of three or four
        kept.pop(next(iter(kept)))
      kept[path] = np.asarray(reader.read(manifest, {name: want})[name])
    return kept[path]

  return leaf
