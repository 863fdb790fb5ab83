"""`unijax sweep`: many runs of a study, one table."""

import argparse
import pathlib
from collections import Counter

from unijax.asked import asked_file
from unijax.errors import ConfigError
from unijax.report import plain_table
from unijax.sweep import drive, pool, trials
from unijax.sweep.trials import Found, Trial

EXAMPLES = """examples:
  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --dry-run
  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --flops=3e13 \\
    --seeds=3 --slots=2
  unijax sweep status runs/mask
  unijax sweep resume runs/mask               after Ctrl-C, kill -9 or a power cut
  unijax sweep table runs/mask --score='iid draw'
  unijax sweep plot runs/mask --out=mask.html
  unijax sweep export runs/mask --out=mask.md
"""
RUN = """
A study is a Python file with get_config(preset), sweep(preset) -> a list of
{dotted.path: value}, and BASELINE; see configs/studies/. Every point is looked at
before anything starts. Each trial has a run folder ROOT/NAME, where NAME is a hash of
its config: the same command, or `resume`, does what is left and nothing twice. A trial
that crashes is a row with its error and stops no other.

--flops gives every point as many steps as so many training FLOPs buy, forward and
backward, counted from its traced step; warm-up is at most a tenth of them.

examples:
  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --dry-run
  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --flops=3e13 --seeds=3
  unijax sweep run configs/studies/loss_weight.py --root=runs/weight \\
    --config.train.steps=2000 --slots=2

exit codes: 0 all ended, some perhaps with an error, which RESULT and the table say;
2 bad input; 75 stopped by Ctrl-C or SIGTERM, saved: `unijax sweep resume ROOT` goes
on."""
TABLE = """
One table a score: means over seeds with 95 % intervals (Student's t), differences from
the study's baseline paired by seed, and the Pareto front of the score against FLOPs.

example: unijax sweep table runs/mask --score='iid draw' --score='bits per byte'"""
PLOT = """
One HTML file that needs no other: tables, score against compute, losses and scores
over training, what each point drew of the same captions, and what failed.

example: unijax sweep plot runs/mask --out=mask.html"""
EXPORT = """
JSON has the points with their intervals and every trial; CSV a line a trial; Markdown
the tables, with a figure (mask.svg) and what was drawn (mask.png) beside it.

examples:
  unijax sweep export runs/mask --out=mask.json
  unijax sweep export runs/mask --out=mask.md
  unijax sweep export runs/mask --out=mask.csv"""


def add_arguments(parser) -> None:
  """Adds the actions to the parser of `unijax sweep`."""
  actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

  def action(name, text, epilog=""):
    return actions.add_parser(
      name, help=text, description=text, epilog=epilog, allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip

  sub = action("run", "Train and score every point of a study.", RUN)
  sub.add_argument("study", metavar="STUDY", help="FILE[:preset]")
  sub.add_argument("--root", required=True, help="folder of the run folders")
  sub.add_argument("--flops", type=float, help="of each training, in place of steps")
  sub.add_argument("--seeds", type=int, default=1, help="of each; default %(default)s")
  sub.add_argument(
    "--eval-prompts", type=int, default=100, metavar="N",
    help="scored of each task and split; default %(default)s",
  )  # fmt: skip
  sub.add_argument("--dry-run", action="store_true", help="only show what would run")
  _add_driving(sub)
  sub = action("resume", "Go on with what is left of a sweep, on its root alone.",
               "\nexample: unijax sweep resume runs/mask --retry-failed")  # fmt: skip
  _add_root(sub)
  _add_driving(sub)
  sub = action("status", "Say what is done, running, waiting, interrupted or failed.",
               "\nexample: unijax sweep status runs/mask --all")  # fmt: skip
  _add_root(sub)
  sub.add_argument("--all", action="store_true", help="list the done and waiting, too")
  sub = action("table", "Print scores over seeds, and differences.", TABLE)
  _add_root(sub)
  sub.add_argument("--score", action="append", default=[], help="several; the study's")
  sub = action("plot", "Write the page of a sweep.", PLOT)
  _add_root(sub)
  sub.add_argument("--out", default="", help="file.html; default ROOT/index.html")
  sub = action(
    "export", "Write results for other programs, or for a repository.", EXPORT
  )
  _add_root(sub)
  sub.add_argument("--out", required=True, help="file.json, file.csv or file.md")
  sub = actions.add_parser("trial")  # what `run` starts itself, a process a trial
  sub.add_argument("folder")
  sub.add_argument("--key")


def _add_root(sub) -> None:
  sub.add_argument("root", metavar="ROOT", help="folder of a sweep")


def _add_driving(sub) -> None:
  sub.add_argument("--slots", type=int, default=1, help="trials at a time; default 1")
  sub.add_argument(
    "--retry-failed", action="store_true", help="try trials that crashed once more"
  )


def run(args, overrides: list[str]) -> dict:
  """Runs one action; returns what it found."""
  if overrides and args.action != "run":
    raise ConfigError(
      f"{overrides[0]}: only `unijax sweep run` takes a config's values"
    )
  actions = {"run": lambda a: _run(a, overrides), "resume": _resume, "status": _status,
             "table": _table, "plot": _plot, "export": _export,
             "trial": _trial}  # fmt: skip
  return {"verb": "sweep", "action": args.action, **actions[args.action](args)}


def _run(args, overrides: list[str]) -> dict:
  from unijax import config_file
  from unijax.sweep import study as study_lib

  config_file.check_values(overrides)
  _check_slots(args.slots)
  study = study_lib.load(args.study)
  wanted = drive.planned(
    study, overrides, flops=args.flops, seeds=args.seeds, prompts=args.eval_prompts
  )
  if args.dry_run:
    print(_planned(wanted))
    return {"trials": len(wanted), "points": len({t.group for t in wanted})}
  root = pathlib.Path(args.root)
  about = drive.describe(study, args.flops, overrides)
  for name in drive.prepare(root, about, wanted):
    print(f"{root / name}: no trial of the study as it is now; it stays in the tables")
  return _drive(root, args)


def _planned(wanted: list[Trial]) -> str:
  head = ("run folder", "point", "seed", "steps", "FLOPs", "baseline")
  labels = {t.group: t.label for t in wanted}
  rows = [
    (t.name, t.label, str(t.seed), f"{t.config['train']['steps']:,}",
     f"{t.counted['flops']:.3g}" if t.counted else "",
     "" if t.baseline == t.group else labels.get(t.baseline, ""))
    for t in wanted
  ]  # fmt: skip
  return plain_table(head, rows, left=(0, 1, 5))


def _resume(args) -> dict:
  _check_slots(args.slots)
  return _drive(pathlib.Path(args.root), args)


def _check_slots(slots: int) -> None:
  if slots < 1:
    raise ConfigError(f"--slots={slots}: give 1 or more")


def _drive(root: pathlib.Path, args) -> dict:
  """Runs what is left and prints the table.

  Raises:
    Preempted: asked to stop; every trial has saved.
  """
  from unijax.sweep import table
  from unijax.train.interrupt import Preempted

  outcomes = drive.run(root, slots=args.slots, again=args.retry_failed)
  if pool.exit_code(outcomes) == pool.STOPPED:
    raise Preempted(f"stopped; `unijax sweep resume {root}` goes on")
  found = trials.index(root)
  print(table.plain(found, drive.read_about(root).get("scores", ())))
  return {"root": str(root), **_counts(found)}


def _counts(found: list[Found]) -> dict:
  states = Counter(f.state for f in found)
  failed = [f.trial.name for f in found if f.state == "failed"]
  return {"trials": len(found), **{s: states[s] for s in trials.STATES},
          "failures": failed}  # fmt: skip


def _status(args) -> dict:
  found = trials.index(args.root)
  shown = [f for f in found if args.all or f.state not in ("done", "waiting")]
  if shown:
    head = ("run folder", "point", "seed", "state", "")
    rows = [
      (f.trial.name, f.trial.label, str(f.trial.seed), f.state, f.error) for f in shown
    ]
    print(plain_table(head, rows, left=(0, 1, 3, 4)), end="\n\n")
  counts = _counts(found)
  states = ", ".join(f"{counts[s]} {s}" for s in trials.STATES if counts[s])
  print(f"{len(found)} trials: {states}")
  return {"root": args.root, **counts}


def _table(args) -> dict:
  from unijax.sweep import table

  found = trials.index(args.root)
  known = table.names(found, args.score)
  if unknown := [name for name in args.score if name not in known]:
    every = sorted({name for f in found for name in table.scores_of(f)})
    raise ConfigError(f"--score={unknown[0]}: known are {', '.join(every) or 'none'}")
  wanted = args.score or drive.read_about(args.root).get("scores", ())
  print(table.plain(found, wanted))
  return {"root": args.root, **_counts(found), "points": table.plain_rows(found)}


def _plot(args) -> dict:
  from unijax.sweep import page

  place = asked_file(args.out or args.root, "--out", "index.html", (".html",))
  found = trials.index(args.root)
  page.write(place, found, drive.read_about(args.root))
  return {"root": args.root, "report": str(place.absolute()), **_counts(found)}


def _export(args) -> dict:
  from unijax.sweep import export

  place = asked_file(args.out, "--out", "sweep.json", export.SUFFIXES)
  found = trials.index(args.root)
  export.write(place, found, drive.read_about(args.root))
  return {"root": args.root, "file": str(place.absolute()), **_counts(found)}


def _trial(args) -> dict:
  from unijax.sweep import one

  found = one.run(args.folder)
  return {"folder": args.folder, "scores": found["scores"]}
