"""Where training starts: resume > resume-from > init-from > scratch."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from unijax import low_rank
from unijax.checkpoint import fits, integrity
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.integrity import Manifest
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.store import Store
from unijax.types import TrainState

RESUME = ("auto", "never", "must")
ALLOW = ("missing", "unexpected", "misfit")
PAIRS = f"{low_rank.PAIRS}."  # what names of parameters of pairs begin with
MERGE = (
  "Its low-rank pairs can be multiplied in first: `unijax ckpt merge {} --out=RUN`"
)


@dataclasses.dataclass(frozen=True)
class Start:
  """How a run begins.

  Attributes:
    resume: go on with the run of the directory if there is one (auto), refuse if there
      is (never), refuse if there is none (must).
    resume_from: WORKDIR[@STEP] of another run whose whole state is taken over.
    init_from: WORKDIR[@STEP][:REGEX=>NAME,...] of another run whose parameters are;
      NAME|NAME fills several parameters with one.
    init_allow: which of `ALLOW` init_from puts up with.
  """

  resume: str = "auto"
  resume_from: str = ""
  init_from: str = ""
  init_allow: Sequence[str] = ()

  def __post_init__(self):
    if self.resume not in RESUME:
      raise CheckpointError(
        f"--resume={self.resume}: must be one of {', '.join(RESUME)}"
      )
    for word in self.init_allow:
      if word not in ALLOW:
        raise CheckpointError(f"--init-allow={word}: must be one of {', '.join(ALLOW)}")
    if self.resume_from and self.init_from:
      raise CheckpointError("give --resume-from or --init-from, not both")


def first_state(
  store: Store,
  init: Callable[[], TrainState],
  abstract: TrainState,
  start: Start = Start(),  # noqa: B008 (frozen)
) -> tuple[TrainState, str]:
  """Returns the state that training begins with, and where it is from, in words.

  Args:
    store: of the run.
    init: makes a fresh state.
    abstract: the state's shapes, dtypes and shardings; see `fits.abstract_state`.
    start: what was asked for.

  Raises:
    CheckpointError: there is nothing to resume, or something that must not be; what is
      taken over does not fit.
    DamagedError: all checkpoints of the run to go on with are damaged.
  """
  steps = store.steps()
  if steps and start.resume == "never":
    raise CheckpointError(
      f"{store.workdir} already has checkpoints {steps} and --resume=never was given: "
      "use another --workdir, or remove them with `unijax ckpt rm`"
    )
  if not steps and start.resume == "must":
    raise CheckpointError(
      f"{store.workdir} has no checkpoint and --resume=must was given: "
      "check --workdir, or use --resume=auto"
    )
  if steps:
    state = store.restore(abstract)
    return state, f"resumed {store.workdir} at step {int(state.step)}"
  if start.resume_from:
    other, step = open_run(start.resume_from, store.say)
    try:
      state = other.restore(abstract, step)
    finally:
      other.close()
    return state, f"the whole state of {other.workdir} at step {int(state.step)}"
  if start.init_from:
    return _init_from(store, init, abstract, start)
  return init(), "from scratch"


def open_run(text: str, say=print) -> tuple[Reader, int | None]:
  """Opens WORKDIR[@STEP] for reading.

  Raises:
    CheckpointError: there is no run.
  """
  path, _, step = text.rpartition("@") if re.search(r"@\d+$", text) else (text, "", "")
  return Reader(pathlib.Path(path), say=say), int(step) if step else None


def parse_init(text: str) -> tuple[str, list[tuple[re.Pattern, str]]]:
  r"""Splits PATH[:REGEX=>NAME[|NAME...][,REGEX=>...]].

  A comma inside a regex is written \x2c.

  Raises:
    CheckpointError: naming the part that is wrong.
  """
  path, _, rest = text.partition(":")
  rules = []
  for part in re.split(r",(?=[^,]*=>)", rest) if rest else []:
    regex, arrow, name = part.partition("=>")
    try:
      rules.append((re.compile(regex), name))
    except re.error as error:
      raise CheckpointError(f"--init-from: {regex!r} is no regex: {error}") from error
    if not arrow:
      raise CheckpointError(f"--init-from: {part!r} has no '=>' (REGEX=>NAME)")
  return path, rules


def renamed(
  names: Sequence[str], rules: Sequence[tuple[re.Pattern, str]]
) -> dict[str, str]:
  """Returns {new name: old name}: the first rule that matches all of a name renames it.

  A name that becomes '' is left out; one that becomes 'A|B' is taken twice.

  Raises:
    CheckpointError: a rule matches nothing, its groups are wrong, or two names meet.
  """
  found: dict[str, str] = {}
  used = set()
  for old in names:
    new = old
    for number, (regex, name) in enumerate(rules):
      match = regex.fullmatch(old)
      if match:
        used.add(number)
        try:
          new = match.expand(name)
        except (re.error, IndexError) as error:
          raise CheckpointError(f"--init-from: {name!r}: {error}") from error
        break
    for one in filter(None, new.split("|")):
      if one in found:
        raise CheckpointError(f"--init-from: {found[one]} and {old} both become {one}")
      found[one] = old
  idle = [rules[i][0].pattern for i in range(len(rules)) if i not in used]
  if idle:
    raise CheckpointError(
      f"--init-from: {idle[0]!r} matches no parameter; they are:"
      f"{fits.shown(sorted(names))}"
    )
  return found


def compare(
  saved: Mapping[str, Any], wanted: Mapping[str, Any], sources: Mapping[str, str]
) -> dict[str, list[str]]:
  """Sorts what does not fit into the kinds of `ALLOW`, one line a parameter.

  Args:
    saved: name there -> Leaf.
    wanted: name here -> abstract leaf.
    sources: name here -> name there, as from `renamed`.
  """
  report = {
    "missing": [f"{name}: nothing there" for name in wanted if name not in sources],
    "unexpected": [
      f"{old}: nothing here" + (f" called {new}" if new != old else "")
      for new, old in sources.items()
      if new not in wanted
    ],
    "misfit": [],
  }
  for new in wanted.keys() & sources.keys():
    leaf = saved[sources[new]]
    there = fits.form(leaf.shape, leaf.dtype, leaf.prng)
    here = fits.form(*integrity.stored_form(wanted[new]))
    if there != here:
      report["misfit"].append(f"{new}: {there} there, {here} here")
  return {kind: sorted(lines) for kind, lines in report.items()}


def _init_from(store, init, abstract, start: Start) -> tuple[TrainState, str]:
  """A fresh state with the parameters, and as average the same, of another run."""
  text, rules = parse_init(start.init_from)
  other, step = open_run(text, store.say)
  wanted = integrity.named_leaves(abstract.params)

  def read(manifest: Manifest):
    prefix = "params."
    saved = {
      name.removeprefix(prefix): leaf
      for name, leaf in manifest.leaves.items()
      if name.startswith(prefix)
    }
    sources = renamed(list(saved), rules)
    report = compare(saved, _without_new_pairs(wanted, sources), sources)
    text = _report(report, other.workdir, manifest.step)
    if any(lines and kind not in start.init_allow for kind, lines in report.items()):
      refused = ",".join(kind for kind, lines in report.items() if lines)
      pairs = any(line.startswith(PAIRS) for line in report["unexpected"])
      hint = f". {MERGE.format(other.workdir)}" if pairs else ""
      raise CheckpointError(
        f"{text}\nRename with --init-from=PATH:REGEX=>NAME,.. (an empty NAME leaves "
        f"parameters out), or accept with --init-allow={refused}{hint}"
      )
    bad = {line.partition(":")[0] for line in report["misfit"]}
    take = {n: f"{prefix}{sources[n]}" for n in wanted if n in sources and n not in bad}
    if not take:
      raise CheckpointError(f"{text}\nNothing is left to take: check the renaming")
    arrays = other.read(manifest, {old: wanted[new] for new, old in take.items()})
    taken, used = {}, set()
    for new, old in take.items():  # a copy for each: the step donates them all
      taken[new] = arrays[old].copy() if old in used else arrays[old]
      used.add(old)
    return taken, text, manifest.step

  try:
    taken, report, step = other.first_whole(read, step)
  finally:
    other.close()
  store.say(report)
  state = init()
  fresh = integrity.named_leaves(state.params)
  leaves = [taken.get(name, fresh[name]) for name in fresh]
  params = jax.tree.unflatten(jax.tree.structure(state.params), leaves)
  # A copy of its own: the step donates both.
  average = low_rank.only(params, state.ema_params)
  average = jax.tree.map(lambda x: x.copy(), average)
  state = state.replace(params=params, ema_params=average)
  how = f"{len(taken)} of {len(fresh)} parameters of {other.workdir} at step {step}"
  return state, how


def _without_new_pairs(wanted: Mapping[str, Any], sources: Mapping[str, str]):
  """What must be there: no low-rank pairs, if the other run has none at all."""
  if any(name.startswith(PAIRS) for name in sources):
    return wanted
  return {name: x for name, x in wanted.items() if not name.startswith(PAIRS)}


def _report(report: Mapping[str, Sequence[str]], workdir, step: int) -> str:
  counts = ", ".join(f"{len(lines)} {kind}" for kind, lines in report.items())
  lines = [line for lines in report.values() for line in lines]
  return f"parameters of {workdir} at step {step}: {counts}{fits.shown(lines, 24)}"
