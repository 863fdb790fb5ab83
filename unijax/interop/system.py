"""A released system: one data file that says what its weights are called.

A file of configs/released/ has:
  KEYS        tuple of `keymap.Key`, or a function from our Config to one
  get_config  (fields of its config.json, a `Fields`) -> ConfigDict of ours
  to_published   (Config) -> config.json, the inverse; only where it can be exported
  PUBLISHED   {size: fields of config.json that decide the model}
and where they are needed:
  PREFIXES    {group: prefixes that may stand for <group>}
  FILE        name of the file that is written; model.safetensors
  OURS_ONLY   globs of parameters that released files never have
  DROPS       tuple of `keymap.Drop`
  FILES       {PREFIX: name of a file beside that one}: weights whose names have PREFIX/
              in front
  CONFIGS     {field: name of a JSON file beside the weights that says it}
  FOLDERS     names of folders of a release that hold weights, too; these have names
              with FOLDER/ in front, and config.json in a field of its name
  ALONE       False where a release has no weights beside its FOLDERS; True
  SHARDS      (glob of files that hold pieces of the same arrays, ((glob of names, how
              they are joined), ..)); see `shards`
  PARTS       {what it is: (file of a system, {group: its prefix, or several})}, of
              parts that a run keeps apart; "codec" is the tokenizer of pictures
  SIZES       {field: `told.axis`, `.sizes`, `.count`, ..}: what the files tell
  PARAMETERS  {size: number of parameters}
"""

import dataclasses
import fnmatch
import importlib.util
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.fits import shown
from unijax.config import Config, ConfigError, from_config_dict
from unijax.data.tokenizer import make_tokenizer, vocabulary, vocabulary_of
from unijax.interop.keymap import Table
from unijax.train import tasks

FOLDER = "released"
WITHOUT_TEXT = ("codec", "decoder")  # by train.task
BESIDE = (
  "tokenizer.",
  "preprocessor.",
  "processor.",
  "generation.",
)  # fields of files beside config.json


@dataclasses.dataclass(frozen=True)
class System:
  """A file of configs/released/, loaded."""

  name: str
  module: types.ModuleType
  prefixes: Mapping[str, Sequence[str]] | None = None  # as a part of another

  def table(self, config: Config) -> Table:
    """All keys for a config of ours."""
    keys = self.module.KEYS
    keys = keys(config) if callable(keys) else keys
    prefixes = self.prefixes or self._get("PREFIXES", {})
    return Table(tuple(keys), prefixes, self._get("DROPS", ()))

  def parts(self) -> dict[str, "System"]:
    """Systems of the parts that a run keeps apart, with the names they have in here."""

    def part(name, of):
      known = {g: (x,) if isinstance(x, str) else tuple(x) for g, x in of.items()}
      return dataclasses.replace(load(name), prefixes=known)

    return {kind: part(*about) for kind, about in self._get("PARTS", {}).items()}

  def own(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What of a whole release is of this part of it, by its names."""
    mine = tuple(x for prefixes in self.prefixes.values() for x in prefixes)
    return {name: entry for name, entry in theirs.items() if name.startswith(mine)}

  def fields(
    self, published: Mapping[str, Any], theirs: Mapping[str, Any] | None = None
  ) -> "Fields":
    """Fields of config.json together with those that the files tell.

    Args:
      published: config.json; {} where a release has none.
      theirs: name -> anything with a shape; None where there are no files.

    Raises:
      CheckpointError: both tell a field, and not the same.
    """
    prefixes = self.prefixes or self._get("PREFIXES", {})
    found, differ = _flat(published), []
    for field, told in self._get("SIZES", {}).items() if theirs else ():
      value = told.read(theirs, prefixes)
      if value is None:
        continue
      if not told.wins and field in found and found[field] != value:
        differ.append(f"{field}: {found[field]!r} in config.json, {value!r} in files")
      found[field] = value
    if differ:
      raise CheckpointError(
        f"{self.name}: config.json is not that of these weights:{shown(differ)}"
      )
    return Fields(found, self.name)

  def config(self, fields: "Fields") -> Config:
    """Our config of a released model.

    Raises:
      ConfigError: it has what we cannot do; naming the field.
    """
    made = self.module.get_config(fields)
    return from_config_dict(made if isinstance(made, ConfigDict) else ConfigDict(made))

  def published(self, config: Config) -> dict[str, Any]:
    """The config.json of a config of ours.

    Raises:
      ConfigError: this system is only read, or its files cannot say what we have.
    """
    if not hasattr(self.module, "to_published"):
      raise ConfigError(f"{self.name}: can be imported, and not exported")
    return self.module.to_published(config)

  def folders(self) -> tuple[str, ...]:
    """Folders with weights in a release."""
    return self._get("FOLDERS", ())

  def first(self) -> str | None:
    """As `files.open_weights` takes it."""
    if not self._get("ALONE", True):
      return None
    return self.file() * bool(self.files())

  def released(self, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves that a released file has: without those that only training needs."""
    globs = self._get("OURS_ONLY", ())
    return {
      path: x
      for path, x in leaves.items()
      if not any(fnmatch.fnmatchcase(path, glob) for glob in globs)
    }

  def sizes(self) -> Mapping[str, Mapping[str, Any]]:
    """Fields of config.json by the name of a released size."""
    return self._get("PUBLISHED", {})

  def files(self) -> Mapping[str, str]:
    """Files of weights beside the first one, by what is before names in them."""
    return self._get("FILES", {})

  def shards(self) -> tuple[str, Sequence[tuple[str, Any]]]:
    """Glob of files that hold pieces of the same arrays, and how these are joined."""
    return self._get("SHARDS", ("", ()))

  def configs(self) -> Mapping[str, str]:
    """Files beside config.json, by the field that they say."""
    return self._get("CONFIGS", {})

  def file(self, place: str = "") -> str:
    """Where weights are whose names have `place`/ in front, from a release's folder."""
    first = self._get("FILE", "model.safetensors")
    return self.files().get(place, f"{place}/{first}" if place else first)

  def _get(self, name: str, other):
    return getattr(self.module, name, other)


class Fields(Mapping):
  """Fields of a config.json by dotted names, and refusals that name them."""

  def __init__(self, values: Mapping[str, Any], system: str, path: str = ""):
    self._values, self._system, self._path = _flat(values), system, path

  def part(self, prefix: str, **defaults) -> "Fields":
    """Fields of a part of a model, and those of the files beside the weights.

    Args:
      prefix: before the part's fields, such as "text_config.".
      **defaults: what its library takes for fields that may be left out.
    """
    inside = {
      name.removeprefix(prefix): x
      for name, x in self.items()
      if name.startswith((prefix, *BESIDE))
    }
    return Fields({**defaults, **inside}, self._system, self._path + prefix)

  def given(self, **values) -> "Fields":
    """The same with other values of some fields."""
    return Fields({**self._values, **values}, self._system, self._path)

  def __getitem__(self, name):
    if name in self._values:
      return self._values[name]
    raise ConfigError(
      f"{self._system}: config.json has no {self._path + name!r}, which the weights do "
      "not tell"
    )

  def __contains__(self, name):
    return name in self._values

  def get(self, name, default=None):
    """The field, or what its library takes where it is not written."""
    return self._values.get(name, default)

  def __iter__(self):
    return iter(self._values)

  def __len__(self):
    return len(self._values)

  def only(self, name: str, *values, default: Any = None) -> Any:
    """Returns a field that may have these values only.

    Args:
      name: of the field.
      *values: that we can do; the first is taken where the field is not written,
        unless there is a default.
      default: see `values`.

    Raises:
      ConfigError: it has another.
    """
    found = self.get(name, values[0] if default is None else default)
    if found not in values:
      known = ", ".join(map(repr, values))
      raise ConfigError(
        f"{self._system}: config.json has {self._path}{name}={found!r}; only {known} "
        "can be done"
      )
    return found


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in values.items():
    if isinstance(value, Mapping) and value:
      flat |= _flat(value, f"{path}{name}.")
    else:
      flat[f"{path}{name}"] = tuple(value) if isinstance(value, list) else value
  return flat


def load(name: str) -> System:
  """Returns a released system by the name of its file, or the path of one.

  Raises:
    ConfigError: there is none; it lists those that are there.
  """
  path = pathlib.Path(name)
  if path.suffix != ".py":
    path = folder() / f"{name}.py"
  if not path.is_file():
    raise ConfigError(f"no released system {name!r}; known: {', '.join(names())}")
  spec = importlib.util.spec_from_file_location(f"released_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return System(path.stem, module)


def folder() -> pathlib.Path:
  """Where the files of released systems are."""
  spec = importlib.util.find_spec("configs")
  if spec is None:
    raise ConfigError("no folder configs/ beside unijax: name the file of the system")
  return pathlib.Path(next(iter(spec.submodule_search_locations))) / FOLDER


def names() -> list[str]:
  """Released systems that come with unijax."""
  return sorted(p.stem for p in folder().glob("*.py") if not p.stem.startswith("_"))


def leaves(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
  """Path -> shape and dtype of every parameter, built without numbers."""
  task = tasks.make_task(config, vocab(config)).plain
  tree = jax.eval_shape(task.init_params, jax.eval_shape(jax.random.key, 0))
  return named(nn.unbox(tree))


def vocab(config: Config) -> int:
  """Rows of the token table, as loaders count them without opening sources."""
  task = config.train.task
  if task in WITHOUT_TEXT:
    return 0
  if task == "alignment" and config.text.vocab:
    return config.text.vocab
  tokenizer = make_tokenizer(config.data.tokenizer)
  if task == "alignment":
    return vocabulary(tokenizer, given=config.data.special).size
  return vocabulary_of(config, tokenizer).size


def named(tree) -> dict[str, Any]:
  """{slash path: leaf} of a tree of parameters."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def nested(flat: Mapping[str, Any]) -> dict:
  """The inverse of `named`, for trees of dicts."""
  tree: dict = {}
  for path, leaf in flat.items():
    *parents, last = path.split("/")
    place = tree
    for parent in parents:
      place = place.setdefault(parent, {})
    place[last] = leaf
  return tree
