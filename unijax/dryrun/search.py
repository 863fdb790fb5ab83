"""The smallest change that makes a config fit, found by compiling candidates."""

import dataclasses
from collections.abc import Callable, Iterator

from unijax.config import Config, ConfigError
from unijax.dryrun.compiled import Outcome

REMAT = ("none", "dots", "attention", "full")  # less memory, more recomputation
PRESETS = ("fsdp", "fsdp_tp", "fsdp_cp", "fsdp_ep")
REMAT_KNOBS = {  # by task: the knobs that say what is recomputed
  "unified": ("model.remat",), "drawing": ("model.remat",),
  "alignment": ("vision.remat", "text.remat"),
}  # fmt: skip

Change = dict[str, int | str]  # knob -> value


@dataclasses.dataclass(frozen=True)
class Tried:
  """One candidate and what came of it: fits, does not fit, or cannot be built."""

  change: Change
  fits: bool
  why: str


def change(config: Config, knobs: Change) -> Config:
  """Returns the config with some knobs replaced."""
  for path, value in knobs.items():
    section, _, knob = path.partition(".")
    part = dataclasses.replace(getattr(config, section), **{knob: value})
    config = dataclasses.replace(config, **{section: part})
  return config


def candidates(config: Config, rows: int, outcome: Outcome) -> Iterator[Change]:
  """Yields changes, the cheapest first.

  More micro-batches cost nothing but smaller products; remat costs FLOPs; another mesh
  costs traffic. Temporary memory shrinks at most in proportion to a micro-batch, so
  splits that cannot be enough are left out.

  Args:
    config: that does not fit.
    rows: of a batch that one device (with those that share its rows) holds.
    outcome: of compiling it.
  """
  held = sum(outcome.memory.values())
  limit, needs = outcome.limit, outcome.needs
  hopeless = bool(limit) and held > limit  # the state alone is too large
  factor = 1.0
  if limit and needs and not hopeless and needs > held:
    factor = (needs - held) / max(limit - held, 1)
  now = config.train.micro_batches
  splits = [n for n in _doubling(now) if rows * now % n == 0 and n <= rows * now]
  enough = [n for n in splits if n / now >= factor] or splits[-1:]
  knobs = REMAT_KNOBS.get(config.train.task, ())
  policies = [
    dict.fromkeys(knobs, r) for r in REMAT[_strength(remat(config)) + 1 :] if knobs
  ]
  if not hopeless:
    for n in enough[:2]:
      yield {"train.micro_batches": n}
    yield from policies
    if policies and splits:
      yield {**policies[-1], "train.micro_batches": enough[0]}
      yield {**policies[-1], "train.micro_batches": splits[-1]}
  full = dict.fromkeys(knobs, "full")
  for preset in _presets(config):
    yield {"mesh.preset": preset}
    if splits:
      yield {"mesh.preset": preset, **full, "train.micro_batches": splits[-1]}


def _presets(config: Config) -> list[str]:
  """Other meshes that divide something of the model."""
  leave = {config.mesh.preset}
  if config.train.task != "unified":
    leave.add("fsdp_cp")  # no positions to divide
  if config.model.sharing != "experts":
    leave.add("fsdp_ep")
  return [preset for preset in PRESETS if preset not in leave]


def remat(config: Config) -> str:
  """What the step of a config recomputes: the least of what its knobs say."""
  said = []
  for knob in REMAT_KNOBS.get(config.train.task, ()):
    section, _, name = knob.partition(".")
    said.append(getattr(getattr(config, section), name))
  return min(said, key=_strength, default="none")


def _doubling(start: int) -> list[int]:
  return [start * 2**i for i in range(1, 12)]


def _strength(policy: str) -> int:
  return REMAT.index(policy) if policy in REMAT else len(REMAT) - 1


def search(
  config: Config,
  rows: int,
  outcome: Outcome,
  attempt: Callable[[Config, str], Outcome],
  most: int,
) -> tuple[Change | None, Outcome | None, list[Tried]]:
  """Compiles candidates until one fits, at most `most` of them.

  Returns:
    (the change that fits or None, its Outcome, everything tried).
  """
  tried: list[Tried] = []
  compiled = 0
  for knobs in candidates(config, rows, outcome):
    if compiled == most:
      break
    label = ", ".join(f"{k}={v}" for k, v in knobs.items())
    try:
      new = attempt(change(config, knobs), label)
    except ConfigError as error:
      tried.append(Tried(knobs, False, str(error).splitlines()[-1].strip()))
      continue
    compiled += 1
    tried.append(Tried(knobs, new.fits, says(new)))
    if new.fits:
      return knobs, new, tried
  return None, None, tried


def says(outcome: Outcome) -> str:
  """One phrase about an outcome."""
  if outcome.fits:
    return f"fits: {outcome.memory['total'] / 2**30:.2f} GiB"
  if outcome.needs is None:
    return "does not fit"
  return f"needs {outcome.needs / 2**30:.2f} of {outcome.limit / 2**30:.2f} GiB"
