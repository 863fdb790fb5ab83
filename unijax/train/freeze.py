"""Which parameters a config trains, and how fast, by globs over their paths.

A path is 'transformer/blocks/mlp/kernel'; in a glob `*` stands for any characters,
slashes too. `optim.freeze` is read from left to right and the last glob that matches a
parameter decides: 'text_head/*' freezes, '!text_head/bias' takes back. So ('*',
'!patch_in/*') trains patch_in alone. Of `optim.rates` the first glob that matches
decides. Layers of a scan share one parameter, and so one answer.

Tables of fixed places (`model.patch_position`, `model.feature_position`) always rest.
With low-rank pairs (`lora.rank`) all but these rests before the first of the globs, so
that '!patch_in/*' trains patch_in beside the pairs.

A frozen parameter is not updated at all: no gradient is computed for it, none counts in
the norm, no weight decay acts on it, and the optimizer keeps nothing for it.
"""

import difflib
import fnmatch
from collections.abc import Sequence

import jax

from unijax.config import Config, ConfigError
from unijax.low_rank import PAIRS


def name(path) -> str:
  """'embedding/table' from the path of a leaf."""
  return "/".join(str(getattr(k, "key", k)) for k in path)


def globs(config: Config) -> tuple[str, ...]:
  """What says which parameters rest; `config` is that of a stage, or of a run."""
  pairs = ("*", f"!{PAIRS}/*") if config.lora.rank else ()
  return (*pairs, *config.optim.freeze, *config.fixed)


def mask(globs: Sequence[str], params, where: str = "optim.freeze"):
  """Returns a tree like `params` of bools, true where a parameter is frozen.

  Args:
    globs: of `globs`.
    params: tree of arrays or shapes.
    where: the knob, for errors.

  Raises:
    ConfigError: a glob that matches nothing, with the nearest paths; nothing is left
      to train.
  """
  if not globs:
    return jax.tree.map(lambda _: False, params)
  for glob in globs:
    _matching(glob.removeprefix("!"), params, f"{where}: {glob!r}")

  def frozen(path, _) -> bool:
    fits = [g for g in globs if fnmatch.fnmatchcase(name(path), g.removeprefix("!"))]
    return bool(fits) and not fits[-1].startswith("!")

  found = jax.tree_util.tree_map_with_path(frozen, params)
  if all(jax.tree.leaves(found)):
    raise ConfigError(
      f"{where}: {', '.join(map(repr, globs))} freezes every parameter, so that "
      "nothing is trained: take some back with '!GLOB'"
    )
  return found


def factors(rates: Sequence[tuple[str, float]], params, where: str = "optim.rates"):
  """Returns a tree like `params` of the factors of their learning rates.

  Raises:
    ConfigError: a glob that matches nothing, with the nearest paths.
  """
  for glob, _ in rates:
    _matching(glob, params, f"{where}: {glob!r}")

  def factor(path, _) -> float:
    fits = (rate for glob, rate in rates if fnmatch.fnmatchcase(name(path), glob))
    return next(fits, 1.0)

  return jax.tree_util.tree_map_with_path(factor, params)


def stop(frozen, params):
  """Returns the parameters, the frozen ones as constants to a gradient."""
  return jax.tree.map(lambda f, x: jax.lax.stop_gradient(x) if f else x, frozen, params)


def keep(frozen, new, old):
  """Returns `new`, where frozen `old`: the very same bits."""
  return jax.tree.map(lambda f, a, b: b if f else a, frozen, new, old)


def average(frozen, params, ema, decay):
  """Moves the average towards the parameters: decay ema + (1 - decay) params.

  That of a frozen parameter goes on as well, for what is sampled must fit the weights
  beside which the others are trained; written as ema + (1 - decay) (params - ema), an
  average that is the parameter, as in a fresh run, stays so bit for bit.
  """
  step = 1.0 - decay
  return jax.tree.map(
    lambda f, new, old: (
      old + step * (new - old) if f else step * new + (1.0 - step) * old
    ),
    frozen, params, ema,
  )  # fmt: skip


def _matching(glob: str, params, said: str) -> None:
  paths = [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  check(glob, paths, f"{said} matches no parameter")


def check(glob: str, paths: Sequence[str], said: str) -> None:
  """Raises ConfigError where a glob matches none of the paths, with the nearest.

  Args:
    glob: without '!'.
    paths: of parameters.
    said: what the error begins with.
  """
  if any(fnmatch.fnmatchcase(path, glob) for path in paths):
    return
  folders = {"/".join(p.split("/")[:n]) + "/*" for p in paths for n in range(1, 6)}
  known = [*paths, *sorted(folders)]
  near = difflib.get_close_matches(glob, known, n=3, cutoff=0.4) or paths[:3]
  raise ConfigError(
    f"{said}; the nearest are {', '.join(near)} (`unijax mesh "
    "explain` without it lists all)"
  )
