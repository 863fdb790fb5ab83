"""Speed of released models here against the library they come from, on the same files.

  python tests/bench/released.py --peer-python .venv-bench/bin/python
  python tests/bench/released.py --peer-python PYTHON --width=64 --depth=2 --heads=4 \\
    --hidden=96 --vocab=600 --kv_heads=2 --grid=4 --allow-busy

A decoder of random weights (124 million parameters unless sizes are given) is written as
a release, a folder of safetensors and config.json; both sides read it. What they write
is compared first, id by id, and the bench ends where it differs. Then rounds as in
`run.py`: both sides wait while the other works, and a ratio above 1 is unijax faster.

  text_1, text_8    tokens written greedily after a prompt of each of 1 or 8 rows
  image_1, image_8  codes of an image of each of 1 or 8 prompts, one by one, with
                    guidance (twice as many rows), greedily
  prefill           a prompt that is only read
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import tempfile

import numpy as np
import released_work
import rounds
import run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

SPREAD = 1.5  # of the weights: products enlarge what enters, so that words differ


def write_release(folder: pathlib.Path, work: released_work.Work) -> None:
  """Writes random weights and their config.json."""
  from unijax.checkpoint import safetensors
  from unijax.interop import matching, system

  chosen, rng = system.load("llama"), np.random.default_rng(0)
  config = chosen.config(chosen.fields(work.published()))
  ours, forms = system.leaves(config), {}
  for name, (piece,) in matching.plan(chosen.table(config), ours).items():
    shape = tuple(ours[piece.leaf].shape[len(piece.at) :])
    forms[name] = piece.op.shapes(shape)[0], "float32"

  def arrays():
    for name, (shape, _) in forms.items():
      x = rng.standard_normal(shape, np.float32)
      yield name, 1 + 0.1 * x if len(shape) == 1 else x * (SPREAD * shape[1] ** -0.5)

  safetensors.write(folder / "model.safetensors", forms, arrays, {"format": "pt"})
  (folder / "config.json").write_text(json.dumps(work.published()))


def check_same(ours: dict, peer: dict) -> dict[str, int]:
  """Compares what both sides wrote: figure -> number of ids.

  Raises:
    SystemExit: naming the first id that differs.
  """
  for name, wrote in ours["wrote"].items():
    other = peer["wrote"][name]
    if wrote != other:
      pairs = zip(wrote, other, strict=False)
      at = next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(wrote), len(other))
      )
      raise SystemExit(f"{name}: id {at} differs: {wrote[at : at + 3]} here, "
                       f"{other[at : at + 3]} there; nothing was measured")  # fmt: skip
  return {name: len(wrote) for name, wrote in ours["wrote"].items()}


def summarize(results: dict[str, list[tuple]]) -> dict:
  """Figure -> spreads of the seconds of both sides, and of the ratios of the rounds."""
  return {
    figure: {
      "ours": run.spread([a for a, _ in pairs]),
      "peer": run.spread([b for _, b in pairs]),
      "ratio": run.spread([b / a for a, b in pairs]),
    }
    for figure, pairs in results.items()
  }


def table(summary: dict, counts: dict[str, int]) -> str:
  """The summary as lines of text."""
  lines = [f"{'figure':10}{'equal ids':>10}  {'':6}{'min':>9}{'median':>9}{'max':>9}"]
  for figure, entry in summary.items():
    for who, values in entry.items():
      first = who == "ours"
      name, count = (figure, str(counts[figure])) if first else ("", "")
      numbers = "".join(f"{values[k]:9.3g}" for k in ("min", "median", "max"))
      unit = "" if who == "ratio" else " s"
      lines.append(f"{name:10}{count:>10}  {who:6}{numbers}{unit}")
  return "\n".join(lines)


def main() -> None:
  """Runs the bench and prints its table and one RESULT line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--peer-python", default="python", help="one with transformers")
  parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements")
  parser.add_argument("--allow-busy", action="store_true", help="measure anyway")
  rounds.add_arguments(parser, released_work.Work)
  options = parser.parse_args()
  work = rounds.parse(options, released_work.Work)
  busy = run.busy_share()
  if busy > run.BUSY and not options.allow_busy:
    raise SystemExit(
      f"{busy:.0%} of this machine is in use by others; the ratios would be wrong. "
      "Stop what runs, or look at them all the same with --allow-busy."
    )
  if hasattr(os, "sched_setaffinity"):  # Linux; the children inherit it
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: work.threads])
  with tempfile.TemporaryDirectory() as folder:
    work = dataclasses.replace(work, folder=folder)
    write_release(pathlib.Path(folder), work)
    results, counts, about = measure(work, options.peer_python, options.rounds)
  summary = summarize(results)
  for side in about:
    print(json.dumps({k: v for k, v in side.items() if k != "wrote"}))
  print(table(summary, counts))
  python = platform.python_version()
  print("RESULT " + json.dumps({
    "workload": dataclasses.asdict(work), "busy_before": busy, "python": python,
    "equal_ids": counts, **summary,
  }))  # fmt: skip


def measure(work, peer_python: str, count: int):
  """Runs both sides: (figure -> pairs of seconds, figure -> equal ids, who they are)."""
  ours, peer = run.Side(sys.executable, "released_ours.py", work), None
  try:
    peer = run.Side(peer_python, "released_peer.py", work)
    counts = check_same(ours.about, peer.about)
    return run.alternate(ours, peer, count), counts, (ours.about, peer.about)
  finally:
    ours.close()
    if peer:
      peer.close()


if __name__ == "__main__":
  main()
