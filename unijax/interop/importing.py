"""From a released model to a run folder."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from unijax import codecs
from unijax.checkpoint import rundir, safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.codecs import artefact
from unijax.config import Config, ConfigError
from unijax.disk import new_folder
from unijax.interop import (
  beside,
  files,
  keymap,
  matching,
  parts,
  shards,
  stream,
  system,
  texts,
)
from unijax.interop.system import System
from unijax.train.encoders import write_encoder
from unijax.train.run import versions

Say = Callable[[str], None]
ABOUT = "imported"  # entry of config.json
SECONDS = 5.0  # between words on how far it is
CONFIG_FILE = '''"""The config of this run, to train from it:

  unijax train --config={run}/config.py --init-from={run} --workdir=OTHER
"""

import pathlib

from unijax.checkpoint import rundir, safetensors


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
    parts: what a run keeps apart, by what it is.
    without: parts that the files do not have, which another run must have.
  """

  system: System
  config: Config
  theirs: Mapping[str, safetensors.Entry]
  match: keymap.Match
  ours: Mapping[str, jax.ShapeDtypeStruct]
  parts: Mapping[str, "Found"]
  without: tuple[str, ...] = ()

  @property
  def dropped(self) -> list[str]:
    """Names of the files that no part has a place for."""
    used = {n for part in self.parts.values() for n in part.match.report.consumed}
    return [name for name in self.match.report.dropped if name not in used]


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
  theirs = shards.open_shards(path, *chosen.shards()) or files.open_weights(
    path, chosen.folders(), chosen.first(), chosen.files()
  )
  about = texts.beside(path) | _published(chosen, path, size)
  return _look(chosen, path, theirs, about)


def _look(chosen: System, path: pathlib.Path, theirs, about) -> Found:
  """`look` for a system whose files and fields are known."""
  fields = chosen.fields(about, theirs)
  config = chosen.config(fields)
  ours = system.leaves(config)
  match = matching.match(chosen.table(config), ours, theirs)
  if not match.report.fits:
    raise CheckpointError(
      f"{path} is not a whole {chosen.name} of this config: {match.report.text()}"
    )
  stream.check_dropped(chosen.table(config), match.report.dropped, theirs)
  own = {kind: (part, part.own(theirs)) for kind, part in chosen.parts().items()}
  parts = {k: _look(s, path, x, about) for k, (s, x) in own.items() if x}
  without = tuple(kind for kind in own if kind not in parts)
  return Found(chosen, config, theirs, match, ours, parts, without)


def _published(chosen: System, path: pathlib.Path, size: str) -> dict[str, Any]:
  """Fields of config.json, or those of a size where there is none."""
  written, sizes = beside.fields(path, chosen.configs()), chosen.sizes()
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
  say: Say = print, codec: str = "",
) -> dict[str, Any]:  # fmt: skip
  """Writes the run folder of a released model; nothing is left of one that fails.

  The arguments are those of `look`, which also says what is raised, and:
    out: a folder that does not exist yet.
    say: prints one sentence.
    codec: run whose tokenizer of pictures is taken in the place of that in the files,
      which may lack the half that draws; "": that in the files.

  Returns:
    What was done, for RESULT.
  """
  out = new_place(out)
  with new_folder(out) as folder:
    found = look(name, path, size)
    if codec and not (found.parts or found.without):
      raise ConfigError(f"--codec: {name} keeps no tokenizer of pictures apart")
    report, config = found.match.report, write_parts(found, folder, say, codec)
    kinds = ", ".join(sorted({str(x.dtype) for x in found.theirs.values()}))
    say(f"{path}: {report.text()}; numbers are {kinds}")
    params = system.nested(dict(_read(found, say)))
    about = {
      "system": found.system.name, "from": pathlib.Path(path).name,
      "tensors": len(report.consumed), "dropped": found.dropped,
    }  # fmt: skip
    identity = codecs.identity(config.data.codec)
    extra = {"versions": versions(), "codec": identity, ABOUT: about}
    if found.parts or found.without:
      config = _reads(config, rundir.OWN_CODEC)
    rundir.write_config(folder, config, extra)
    texts.keep(pathlib.Path(path), folder)
    (folder / "config.py").write_text(CONFIG_FILE.format(run=out))
    if found.config.train.task == "alignment":
      _say_words(found.config, path, say)
      write_encoder(folder, found.config, params, 0)
    if found.config.train.task == "codec":
      parts.write_codec(folder, found.config, params)
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
    "tensors": len(report.consumed), "dropped": len(found.dropped),
  }  # fmt: skip


def write_parts(
  found: Found, folder: pathlib.Path, say: Say = print, codec: str = ""
) -> Config:
  """Writes what a run keeps apart into its folder.

  Args:
    found: of `look`.
    folder: that is there.
    say: prints one sentence.
    codec: as for `import_run`.

  Returns:
    The config that reads it there.
  """
  config = found.config
  for part in found.parts.values():  # so far, codecs
    say(f"{part.system.name}, a part of it: {part.match.report.text()}")
    leaves = dict(_read(part, say))
    if codec:
      parts.take_codec(folder, codec, leaves)
    else:
      parts.write_codec(folder, part.config, system.nested(leaves))
    config = _reads(config, str(folder / artefact.FOLDER))
  if found.without:
    if not codec:
      raise CheckpointError(
        f"these files have no tokenizer of pictures, as a whole {found.system.name} "
        "has: import that, and name its run with --codec"
      )
    parts.take_codec(folder, codec, {}, codecs.sizes(config.data.codec))
    config = _reads(config, str(folder / artefact.FOLDER))
  return config


def _reads(config: Config, codec: str) -> Config:
  """The config with another data.codec."""
  return dataclasses.replace(config, data=dataclasses.replace(config.data, codec=codec))


def _say_words(config: Config, path, say: Say) -> None:
  """Says so where texts cannot be read as the weights of an encoder know them."""
  if config.align.objective != "none" and config.data.tokenizer == "bytes":
    say(
      f"no tokenizer beside {path}: texts are read as bytes, which means nothing to "
      f"these weights; put one of {', '.join(texts.TOKENIZERS)} there"
    )


def new_place(out: str | pathlib.Path) -> pathlib.Path:
  """Returns a path at which nothing is.

  Raises:
    CheckpointError: something is.
  """
  out = pathlib.Path(out)
  if out.exists():
    raise CheckpointError(f"{out} is there already: name another --out, or remove it")
  return out


def _read(found: Found, say: Say) -> Iterator[tuple[str, jax.Array]]:
  """Reads all leaves, and says how far it is every few seconds."""
  told = time.monotonic()

  def tell(number: int, count: int, leaf: str) -> None:
    nonlocal told
    if time.monotonic() - told > SECONDS:
      told = time.monotonic()
      say(f"{number} of {count} parameters read; next {leaf}")

  return stream.read(found.match.pieces, found.theirs, found.ours, tell)
