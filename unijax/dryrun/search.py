"""The smallest change that makes a config fit, found by compiling candidates."""

import dataclasses
from collections.abc import Callable, Iterator

from unijax.config import Config, ConfigError
from unijax.dryrun.compiled import Outcome

REMAT = ("none", "dots", "attention", "full")  # less memory, more recomputation
PRESETS = ("fsdp", "fsdp_tp", "fsdp_cp")

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
  stronger = [r for r in REMAT[_strength(config) + 1 :]]
  if not hopeless:
    for n in enough[:2]:
      yield {"train.micro_batches": n}
    for policy in stronger:
      yield {"model.remat": policy}
    if stronger and splits:
      yield {"model.remat": "full", "train.micro_batches": enough[0]}
      yield {"model.remat": "full", "train.micro_batches": splits[-1]}
  for preset in PRESETS:
    if preset != config.mesh.preset:
      yield {"mesh.preset": preset}
      if splits:
        yield {"mesh.preset": preset, "model.remat": "full",
               "train.micro_batches": splits[-1]}  # fmt: skip


def _doubling(start: int) -> list[int]:
  return [start * 2**i for i in range(1, 12)]


def _strength(config: Config) -> int:
  remat = config.model.remat
  return REMAT.index(remat) if remat in REMAT else len(REMAT) - 1


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
