"""`unijax ckpt`: list, verify, compare and remove checkpoints; others in `weights`."""

import datetime
import functools
import pathlib
import shutil
import sys
import time

from unijax.commands import interop, weights

EXAMPLES = """examples:
  unijax ckpt ls runs/tiny
  unijax ckpt verify runs/tiny                 reads every number of every checkpoint
  unijax ckpt diff runs/tiny@400 runs/tiny@800
  unijax ckpt rm runs/tiny@400
  unijax ckpt export runs/tiny --out=tiny.safetensors
  unijax ckpt merge runs/tuned --out=runs/whole   low-rank pairs into their kernels
  unijax ckpt convert weights.pth --out=weights.safetensors

A checkpoint is RUN@STEP; without @STEP it is the latest that is whole.
verify exits with 3 if any checkpoint it looked at is damaged."""


def add_arguments(parser) -> None:
  """Adds the verbs to the parser of `unijax ckpt`."""
  verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

  def action(name, text):
    return verbs.add_parser(name, help=text, description=text, allow_abbrev=False)

  sub = action("ls", "List checkpoints: step, size, age, metrics, whether files hold.")
  sub.add_argument("where", metavar="RUN", help="run directory")
  sub = action("verify", "Hash all files and digest all arrays; 3 if any is damaged.")
  sub.add_argument("where", metavar="RUN[@STEP]", help="one step, or all of a run")
  sub = action("diff", "Compare two checkpoints: structure, numbers, config.")
  sub.add_argument("one", metavar="RUN[@STEP]")
  sub.add_argument("other", metavar="RUN[@STEP]")
  sub = action("rm", "Remove one checkpoint, or what was set aside as damaged.")
  sub.add_argument("where", metavar="RUN@STEP", help="or RUN@damaged")
  sub.add_argument("--yes", action="store_true", help="do not ask")
  sub.add_argument("--all", action="store_true", help="even the last that is whole")
  weights.add_arguments(action)
  sub = action("convert", "Turn a PyTorch file of plain tensors into .safetensors.")
  sub.add_argument(
    "file", help=".pth, .pt, .bin or .ckpt, or an index of several; nothing is run"
  )
  sub.add_argument(
    "--out", required=True,
    help="file.safetensors; of an index, model.safetensors.index.json",
  )  # fmt: skip


def run(args) -> dict:
  """Runs one action; returns what it found."""
  actions = {
    "ls": _ls, "verify": _verify, "diff": _diff, "rm": _rm, "export": weights.export,
    "merge": weights.merge, "convert": interop.convert,
  }  # fmt: skip
  return {"verb": "ckpt", "action": args.action, **actions[args.action](args)}


def _ls(args) -> dict:
  from unijax.checkpoint.reader import Reader
  from unijax.report import plain_table

  reader = Reader(args.where)
  rows = []
  for step in reader.steps():
    folder = reader.folder(step)
    manifest, wrong = _checked(reader, step)
    row = {
      "step": step, "bytes": _size(folder), "ok": not wrong, "why": wrong,
      "age_seconds": round(time.time() - folder.stat().st_mtime),
      "metrics": {} if manifest is None else dict(manifest.metrics),
    }  # fmt: skip
    rows.append(row)
  aside = _set_aside(reader)
  if rows or aside:
    lines = [_line(row) for row in rows] + [
      [p.name, _bytes(_size(p)), "", "set aside, read by nothing", ""] for p in aside
    ]
    print(plain_table(["step", "size", "age", "files", "metrics"], lines, left=(3, 4)))
  else:
    print(f"{reader.workdir} has no checkpoint yet")
  reader.close()
  return {"checkpoints": rows, "set_aside": [p.name for p in aside]}


def _line(row: dict) -> list[str]:
  """A checkpoint as cells of the table."""
  metrics = " ".join(f"{k} {v:.4g}" for k, v in sorted(row["metrics"].items()))
  age = datetime.timedelta(seconds=row["age_seconds"])
  return [row["step"], _bytes(row["bytes"]), age, row["why"] or "ok", metrics]


def _verify(args) -> dict:
  from unijax.checkpoint.errors import CheckpointError, Damage, DamagedError
  from unijax.checkpoint.start import open_run

  reader, only = open_run(args.where)
  steps = reader.steps() if only is None else [only]
  if not steps or not set(steps) <= set(reader.steps()):
    raise CheckpointError(
      f"{reader.workdir} has not {args.where}: it has steps {reader.steps()}"
    )
  damaged = {}
  for step in steps:
    try:
      manifest = reader.check_files(step)
      read = functools.partial(reader.read, manifest)
      for _ in weights.chunks(read, manifest.leaves):
        pass
    except Damage as damage:
      damaged[step] = str(damage)
    said = damaged.get(step) or f"ok: {len(manifest.leaves)} arrays, every digest holds"
    print(f"{step:>9}  {said}", flush=True)
  reader.close()
  if damaged:
    shown = "; ".join(f"step {s}: {why}" for s, why in damaged.items())
    raise DamagedError(
      f"{len(damaged)} of {len(steps)} checkpoints of {reader.workdir} are damaged: "
      f"{shown}"
    )
  return {"verified": steps}


def _diff(args) -> dict:
  from unijax import config as config_lib
  from unijax.checkpoint import fits, rundir
  from unijax.checkpoint.start import open_run

  sides = []
  for text in (args.one, args.other):
    reader, step = open_run(text)
    sides.append((reader, reader.first_whole(lambda manifest: manifest, step)))
  (one, a), (other, b) = sides
  configs = [config_lib.to_dict(rundir.read_config(r.workdir)) for r, _ in sides]
  lines = config_lib.difference(*configs)
  structure = []
  for name in sorted({*a.leaves, *b.leaves}):
    forms = [
      fits.form(x.shape, x.dtype, x.prng) if x else "nothing"
      for x in (a.leaves.get(name), b.leaves.get(name))
    ]
    if forms[0] != forms[1]:
      structure.append(f"{name}: {forms[0]} -> {forms[1]}")
  common = [n for n in a.leaves if n in b.leaves and not _changed_form(a, b, n)]
  moved = [n for n in common if a.leaves[n].digest != b.leaves[n].digest]
  numbers = dict(_differences(one, a, other, b, moved))
  print(f"{one.workdir}@{a.step} -> {other.workdir}@{b.step}")
  print(f"config: {len(lines)} knobs differ{fits.shown(lines, 24)}")
  print(f"structure: {len(structure)} leaves differ{fits.shown(structure, 24)}")
  shown = [f"{n}: {v:.3g}" for n, v in sorted(numbers.items(), key=lambda x: -x[1])]
  print(
    f"numbers: {len(moved)} of {len(common)} leaves differ; largest difference over "
    f"largest size:{fits.shown(shown, 24)}"
  )
  one.close()
  other.close()
  return {"config": lines, "structure": structure, "numbers": numbers}


def _changed_form(a, b, name: str) -> bool:
  x, y = a.leaves[name], b.leaves[name]
  return (x.shape, x.dtype, x.prng) != (y.shape, y.dtype, y.prng)


def _differences(one, a, other, b, names):
  """Yields (name, max |x - y| / max(|x|, |y|)), infinite where not finite."""
  import numpy as np

  wanted = {name: a.leaves[name] for name in names}
  reads = [functools.partial(r.read, m) for r, m in ((one, a), (other, b))]
  pairs = zip(*(weights.chunks(read, wanted) for read in reads), strict=True)
  for (name, x), (_, y) in pairs:
    x, y = (np.asarray(v).astype(np.complex128) for v in (x, y))
    largest = max(np.abs(x).max(), np.abs(y).max())
    value = float(np.abs(x - y).max() / largest) if largest else 0.0
    yield name, value if np.isfinite(value) else float("inf")


def _rm(args) -> dict:
  from unijax.checkpoint.errors import CheckpointError
  from unijax.checkpoint.reader import Reader
  from unijax.checkpoint.start import open_run

  if args.where.endswith("@damaged"):
    reader = Reader(args.where.removesuffix("@damaged"))
    paths = _set_aside(reader)
  else:
    reader, step = open_run(args.where)
    if step not in reader.steps():
      raise CheckpointError(
        f"name the checkpoint as RUN@STEP: {reader.workdir} has {reader.steps()}"
      )
    whole = [s for s in reader.steps() if not _checked(reader, s)[1]]
    if whole == [step] and not args.all:
      raise CheckpointError(
        f"step {step} is the last checkpoint of {reader.workdir} that is whole: give "
        "--all to remove it too"
      )
    paths = [reader.folder(step)]
  reader.close()
  if not paths:
    raise CheckpointError(f"{reader.workdir} has nothing that was set aside")
  size = _bytes(sum(map(_size, paths)))
  names = ", ".join(p.name for p in paths)
  if not args.yes and not _agreed(
    f"remove {names} of {reader.workdir} ({size})? [y/N] "
  ):
    raise CheckpointError(
      "nothing was removed; give --yes to remove without a question"
    )
  for path in paths:
    shutil.rmtree(path)
  print(f"removed {names}")
  return {"removed": [p.name for p in paths]}


def _agreed(question: str) -> bool:
  if not sys.stdin.isatty():
    return False
  return input(question).strip().lower() in ("y", "yes")


def _checked(reader, step: int):
  """(manifest or None, what is wrong or '')."""
  from unijax.checkpoint.errors import CheckpointError, Damage

  try:
    return reader.check_files(step), ""
  except (Damage, CheckpointError) as error:
    return None, f"damaged: {error}" if isinstance(error, Damage) else str(error)


def _set_aside(reader) -> list[pathlib.Path]:
  return sorted(p for p in reader.root.glob("*.damaged*") if p.is_dir())


def _size(folder: pathlib.Path) -> int:
  return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _bytes(count: float) -> str:
  for unit in ("B", "kB", "MB", "GB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.3g} TB"
