"""`unijax systems --sizes`: parameters of every preset beside the published number.

A config file may say, each by preset:
  PUBLISHED  parameters, as the paper or the released files count
  COUNTED    which of ours are in that number: globs as in optim.freeze; all if not said
  VOCAB      rows of the token table in it, where no tokenizer of that size is named
"""

import dataclasses
import fnmatch
import importlib.util
import math
import pathlib
import re
import types
from collections.abc import Sequence

import jax

from unijax import config_file
from unijax.config import Config, ConfigError
from unijax.train import freeze, tasks
from unijax.train.functions import StepFunctions

CLOSE = 0.01  # of the published number


@dataclasses.dataclass(frozen=True)
class Size:
  """One preset.

  Attributes:
    config: file:preset.
    built: all parameters.
    counted: those that are in the published number.
    published: 0 where none is known.
    explained: whether the docstring has a paragraph "Size of PRESET".
  """

  config: str
  built: int
  counted: int
  published: float
  explained: bool

  @property
  def ratio(self) -> float:
    """Counted over published."""
    return self.counted / self.published if self.published else math.nan

  @property
  def close(self) -> bool:
    """Whether they agree, or nothing is known to agree with."""
    return not self.published or abs(self.ratio - 1) <= CLOSE

  def row(self) -> list[str]:
    """Words for a table."""
    if not self.published:
      return [self.config, f"{self.built:,}", "", "", "", "not known"]
    said = (
      "" if self.close else "explained in the file" if self.explained else "DIFFERS"
    )
    part = "" if self.counted == self.built else f"{self.counted:,}"
    return [
      self.config, f"{self.built:,}", part, f"{self.published:,.0f}",
      f"{self.ratio:.4f}", said,
    ]  # fmt: skip


HEAD = ("config", "parameters", "of them counted", "published", "ratio", "")


def sizes(path: pathlib.Path, name: str) -> list[Size]:
  """All presets of a file that are not tiny, built as shapes.

  Args:
    path: of the config file.
    name: what it is called in the result.
  """
  module = load(path)
  published = getattr(module, "PUBLISHED", {})
  known = [p for p in presets(path) if not p.startswith("tiny")]
  stray = sorted(set(published) - set(known))
  if stray:
    raise ConfigError(f"{path}: PUBLISHED names {stray[0]!r}, which is no preset")
  made = []
  for preset in known:
    config = config_file.load([f"--config={path}:{preset}"])
    vocab = getattr(module, "VOCAB", {}).get(preset, 0)
    globs = getattr(module, "COUNTED", {}).get(preset, ("*",))
    built, counted = count(config, vocab, globs)
    explained = f"Size of {preset}" in (module.__doc__ or "")
    made.append(
      Size(f"{name}:{preset}", built, counted, published.get(preset, 0), explained)
    )
  return made


def load(path: pathlib.Path) -> types.ModuleType:
  """The module of a config file."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def presets(path: pathlib.Path) -> list[str]:
  """What `--config=FILE:preset` accepts, from the error of a wrong one.

  Raises:
    ConfigError: the file takes any preset.
  """
  wrong = "no such preset"
  try:
    config_file.load([f"--config={path}:{wrong}"])
  except ConfigError as error:
    found = re.search(r"known: (.*)", str(error))
    if not found:
      raise
    return found.group(1).split(", ")
  raise ConfigError(f"{path}: takes the preset {wrong!r}, so none can be listed")


def count(config: Config, vocab: int, globs: Sequence[str]) -> tuple[int, int]:
  """(parameters, those that the globs take), from shapes alone."""
  rows = vocab or tasks.make_loader(config).vocab
  params = jax.eval_shape(StepFunctions(config, rows).init).params
  total = taken = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name, size = freeze.name(path), math.prod(leaf.shape)
    fits = [g for g in globs if fnmatch.fnmatchcase(name, g.removeprefix("!"))]
    total += size
    taken += size if fits and not fits[-1].startswith("!") else 0
  return total, taken
