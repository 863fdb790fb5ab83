"""Speed of unijax against a PyTorch peer: one run, alternating rounds, with spread.

  make bench
  python tests/bench/run.py --peer-python .venv-bench/bin/python --rounds 9

Both sides run in their own process on the same cores and wait while the other works.
A round asks each for the same figure, the first side changing from round to round, so
each ratio compares neighbours in time. The ratio is above 1 where unijax is faster.

On a busy machine it refuses to start: OpenMP's threads wait for each other, so a core
that works for others slows the peer down far more than unijax, and ratios are wrong.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import rounds

BUSY = 0.1  # share of the cores that others may use
HERE = pathlib.Path(__file__).parent
UNITS = {"train": "rows/s", "sample_1": "s", "sample_8": "s", "matmul": "GFLOP/s"}
FASTER_IS_LESS = {"sample_1", "sample_8"}
MEANING = {
  "train": "forward, backward and update",
  "sample_1": "text, image, text; 1 row",
  "sample_8": "text, image, text; 8 rows",
  "matmul": "one plain large matrix product",
}


class Side:
  """A process that measures figures when asked."""

  def __init__(self, python: str, script: str, work: rounds.Workload):
    path = os.pathsep.join(
      filter(None, [str(HERE.parents[1]), os.getenv("PYTHONPATH")])
    )
    self.process = subprocess.Popen(
      [python, str(HERE / script), *work.arguments()],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, "OMP_NUM_THREADS": str(work.threads), "PYTHONPATH": path},
    )
    self.script = script
    self.about = self._read()

  def measure(self, figure: str) -> float:
    """Measures a figure once."""
    self.process.stdin.write(figure + "\n")
    self.process.stdin.flush()
    return self._read()["value"]

  def close(self) -> None:
    """Ends the process."""
    self.process.stdin.close()
    self.process.wait()

  def _read(self) -> dict:
    line = self.process.stdout.readline()
    if not line:
      code = self.process.wait()
      raise SystemExit(f"{self.script} ended with code {code}; its error stands above")
    return json.loads(line)


def busy_share(seconds: float = 2.0) -> float:
  """Returns how much of all cores is in use now, 0 to 1; 0 where Linux cannot say."""
  path = pathlib.Path("/proc/stat")
  if not path.exists():
    return 0.0

  def read():
    user, nice, system, idle, wait, *rest = map(int, path.open().readline().split()[1:])
    return idle + wait, sum((user, nice, system, idle, wait, *rest[:3]))

  idle, total = read()
  time.sleep(seconds)
  idle_after, total_after = read()
  return 1.0 - (idle_after - idle) / (total_after - total)


def alternate(ours: Side, peer: Side, count: int) -> dict[str, list[tuple]]:
  """Returns figure -> [(ours, peer)] a round; peer is None where it has no such one."""
  results = {figure: [] for figure in ours.about["figures"]}
  for number in range(count):
    for figure, pairs in results.items():
      if figure not in peer.about["figures"]:
        pairs.append((ours.measure(figure), None))
      elif number % 2:
        second = peer.measure(figure)
        pairs.append((ours.measure(figure), second))
      else:
        pairs.append((ours.measure(figure), peer.measure(figure)))
    print(f"round {number + 1} of {count}: {last_round(results)}", file=sys.stderr)
  return results


def last_round(results: dict[str, list[tuple]]) -> str:
  """What both sides took last, in a line: long benches are often stopped early."""
  said = []
  for figure, pairs in results.items():
    a, b = pairs[-1]
    said.append(f"{figure} {a:.3g}" + (f" / {b:.3g}" if b is not None else ""))
  return ", ".join(said)


def spread(values: list[float]) -> dict[str, float]:
  """Returns the smallest, the middle and the largest value."""
  return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def summarize(results: dict[str, list[tuple]], ours: dict, peer: dict) -> dict:
  """Returns figure -> spreads of both sides and of the ratio pair by pair."""
  summary = {}
  for figure, pairs in results.items():
    entry = {"ours": spread([a for a, _ in pairs])}
    if all(b is not None for _, b in pairs):
      less = figure in FASTER_IS_LESS
      entry["peer"] = spread([b for _, b in pairs])
      entry["ratio"] = spread([b / a if less else a / b for a, b in pairs])
    summary[figure] = entry
  matmul = [a for a, _ in results["matmul"]]
  gflops = [a * ours["train_gflop_per_row"] for a, _ in results["train"]]
  summary["share_of_matmul"] = {
    "ours": spread([a / b for a, b in zip(gflops, matmul, strict=True)]),
    "peer": spread([
      b * peer["train_gflop_per_row"] / c
      for (_, b), c in zip(results["train"], matmul, strict=True)
    ]),
  }  # fmt: skip
  return summary


def table(summary: dict) -> str:
  """Returns the summary as lines of text."""
  units = {**UNITS, "share_of_matmul": "1"}
  meaning = {**MEANING, "share_of_matmul": "training FLOP/s over those of the product"}
  lines = [f"{'figure':18}{'unit':9}{'':7}{'min':>9}{'median':>9}{'max':>9}"]
  for figure, entry in summary.items():
    for who, values in entry.items():
      first = who == "ours"
      name, unit = (figure, units[figure]) if first else ("", "")
      numbers = "".join(f"{values[k]:9.3g}" for k in ("min", "median", "max"))
      note = f"   {meaning[figure]}" if first else ""
      lines.append(f"{name:18}{unit:9}{who:7}{numbers}{note}")
  return "\n".join(lines)


def main() -> None:
  """Runs the bench and prints its table and one RESULT line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--peer-python", required=True, help="python with the peer")
  parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements")
  parser.add_argument("--allow-busy", action="store_true", help="measure anyway")
  rounds.add_arguments(parser)
  options = parser.parse_args()
  work = rounds.parse(options)
  busy = busy_share()
  if busy > BUSY and not options.allow_busy:
    raise SystemExit(
      f"{busy:.0%} of this machine is in use by others; the ratios would be wrong. "
      "Stop what runs, or look at them all the same with --allow-busy."
    )
  if hasattr(os, "sched_setaffinity"):  # Linux; the children inherit it
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < work.threads:
      raise SystemExit(f"--threads {work.threads}, but {len(cores)} cores are usable")
    os.sched_setaffinity(0, cores[: work.threads])
  ours, peer = Side(sys.executable, "ours.py", work), None
  try:
    peer = Side(options.peer_python, "peer.py", work)
    results = alternate(ours, peer, options.rounds)
  finally:
    ours.close()
    if peer:
      peer.close()
  summary = summarize(results, ours.about, peer.about)
  for about in (ours.about, peer.about):
    print(json.dumps(about))
  print(table(summary))
  print(
    "RESULT "
    + json.dumps({"workload": work.arguments(), "busy_before": busy, **summary})
  )


if __name__ == "__main__":
  main()
