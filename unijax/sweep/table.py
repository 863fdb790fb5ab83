"""The table of a sweep: a row a point, means over seeds, differences, Pareto fronts."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence

from unijax.evals.figures import HELD_OUT, lower, share, show
from unijax.report import plain_table
from unijax.sweep import statistics
from unijax.sweep.statistics import Estimate
from unijax.sweep.trials import Found

FRONT = "★"
HEAD = ("point", "n", "steps", "FLOPs", "score", "95 %", "difference", "95 %", "front")


@dataclasses.dataclass(frozen=True)
class Row:
  """One point of a sweep, over its seeds.

  Attributes:
    label: what is particular of it.
    group: hash of its config without the seed.
    done: how many of its trials have scores.
    trials: how many it has.
    steps, flops, parameters: of each of its runs; None before one is done.
    scores: by name.
    baseline: label of the point it is compared with; "" for none.
    against: differences from that point, paired by seed, by name.
    front: names of scores of which it is on the Pareto front against FLOPs.
    point: as swept.
  """

  label: str
  group: str
  done: int
  trials: int
  steps: int | None
  flops: float | None
  parameters: int | None
  scores: Mapping[str, Estimate]
  baseline: str
  against: Mapping[str, Estimate]
  front: frozenset[str]
  point: Mapping[str, object]


def scores_of(found: Found) -> dict[str, float]:
  """What was measured of a trial at its end, by name; {} of one that is not done."""
  if found.state != "done":
    return {}
  scores = {name: values[0] for name, values in found.result["scores"].items()}
  losses = found.result["about"].get("held_out") or {}
  return scores | {HELD_OUT + name: value for name, value in losses.items()}


def names(found: Sequence[Found], wanted: Sequence[str] = ()) -> list[str]:
  """Names of the scores to show: those wanted that are there, else all but losses."""
  known = list(dict.fromkeys(name for f in found for name in scores_of(f)))
  chosen = [name for name in wanted if name in known]
  return chosen or [name for name in known if not name.startswith(HELD_OUT)]


def rows(found: Sequence[Found]) -> list[Row]:
  """One row a point, in the order of the sweep."""
  groups: dict[str, list[Found]] = {}
  for f in found:
    groups.setdefault(f.trial.group, []).append(f)
  by_seed = {group: _by_seed(some) for group, some in groups.items()}
  return _with_fronts([_row(some, groups, by_seed) for some in groups.values()])


def _row(some: Sequence[Found], groups, by_seed) -> Row:
  """The row of the trials of one point; on no front yet."""
  trial = some[0].trial
  own, base = by_seed[trial.group], trial.baseline
  other = by_seed.get(base, {}) if base != trial.group else {}
  pairs = {name: statistics.paired(own[name], other.get(name, {})) for name in own}
  first = next((f.result for f in some if f.state == "done"), {})
  counted = {**trial.counted, **first}
  return Row(
    label=trial.label, group=trial.group, point=trial.point,
    done=sum(f.state == "done" for f in some), trials=len(some),
    steps=counted.get("steps"), flops=counted.get("flops"),
    parameters=counted.get("parameters"),
    scores={name: statistics.interval(list(own[name].values())) for name in own},
    baseline=groups[base][0].trial.label if base in groups else "",
    against={name: pair for name, pair in pairs.items() if pair},
    front=frozenset(),
  )  # fmt: skip


def _by_seed(found: Sequence[Found]) -> dict[str, dict[int, float]]:
  """Score -> seed -> value."""
  result: dict[str, dict[int, float]] = {}
  for f in found:
    for name, value in scores_of(f).items():
      result.setdefault(name, {})[f.trial.seed] = value
  return result


def _with_fronts(made: list[Row]) -> list[Row]:
  fronts: dict[str, set[str]] = {row.group: set() for row in made}
  for name in {name for row in made for name in row.scores}:
    some = [row for row in made if name in row.scores and row.flops is not None]
    sign = -1.0 if lower(name) else 1.0
    points = [(row.flops, sign * row.scores[name].mean) for row in some]
    for i in statistics.front(points):
      fronts[some[i].group].add(name)
  return [dataclasses.replace(r, front=frozenset(fronts[r.group])) for r in made]


def cells(row: Row, name: str) -> list[str]:
  """A row of the table of one score, under `HEAD`."""
  score, change = row.scores.get(name), row.against.get(name)
  count = str(row.done) if row.done == row.trials else f"{row.done} of {row.trials}"
  same = row.baseline == row.label
  return [
    row.label, count, "" if row.steps is None else f"{row.steps:,}",
    "" if row.flops is None else f"{row.flops:.3g}",
    "" if score is None else show(name, score.mean), _ends(name, score),
    "baseline" if same else ("" if change is None else _signed(name, change.mean)),
    "" if same else _ends(name, change, signed=True) + _of(change, score),
    FRONT if name in row.front else "",
  ]  # fmt: skip


def _ends(name: str, estimate: Estimate | None, signed: bool = False) -> str:
  """'70.1 to 83.3'; nothing of a single run."""
  if estimate is None or estimate.ends is None:
    return ""
  return " to ".join((_signed if signed else show)(name, x) for x in estimate.ends)


def _signed(name: str, value: float) -> str:
  return ("+" if value > 0 else "") + show(name, value)


def _of(change: Estimate | None, score: Estimate | None) -> str:
  """' (n 2)' where a difference is of fewer seeds than the score."""
  fewer = change is not None and score is not None and change.n < score.n
  return f" (n {change.n})" if fewer else ""


def title(name: str) -> str:
  """'iid draw, %' or 'bits per byte, less is better'."""
  return (
    name + (", %" if share(name) else "") + (", less is better" if lower(name) else "")
  )


def plain(found: Sequence[Found], wanted: Sequence[str] = ()) -> str:
  """The tables as text for a terminal, and the trials without scores."""
  made, parts = rows(found), []
  for name in names(found, wanted):
    table = plain_table(HEAD, [cells(row, name) for row in made])
    parts.append(f"{title(name)}\n{table}")
  if not parts:
    parts.append("no trial has scores yet")
  if lines := failures(found):
    parts.append("\n".join(["failed", *(f"  {line}" for line in lines)]))
  return "\n\n".join([*parts, textwrap.fill(NOTE, 88)])


def failures(found: Sequence[Found]) -> list[str]:
  """A line for each failed trial."""
  return [
    f"{f.trial.label}, seed {f.trial.seed} ({f.trial.name}): {f.error}"
    for f in found
    if f.state == "failed"
  ]


NOTE = (
  "n: runs with scores, one a seed. 95 %: of the mean over seeds, by Student's t with "
  "n - 1 degrees of freedom; none of a single run. difference: from the baseline of "
  f"the row, paired by seed. {FRONT}: no other point scores better for as few FLOPs."
)


def summary(estimate: Estimate | None) -> dict | None:
  """An estimate as plain values."""
  return None if estimate is None else dataclasses.asdict(estimate)


def plain_rows(found: Sequence[Found]) -> list[dict]:
  """The rows as plain values, for JSON."""
  return [
    {
      **{k: getattr(row, k) for k in ("label", "group", "done", "trials", "steps",
                                      "flops", "parameters", "baseline")},
      "point": dict(row.point), "front": sorted(row.front),
      "scores": {name: summary(e) for name, e in row.scores.items()},
      "against": {name: summary(e) for name, e in row.against.items()},
    }
    for row in rows(found)
  ]  # fmt: skip
