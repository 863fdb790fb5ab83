"""What the loop costs over the bare compiled step, and whether memory stays flat.

  python tests/bench/loop.py [--steps=200] [--config=FILE:preset ...]

Both sides do the same steps in one process, in turn, `--rounds` times: the loop with its
loader, metrics, events and watchdog; the bare step on batches that are built and placed
already, as many dispatched ahead. A step's time is the median of a round; of the rounds
the best counts, since whatever else runs on the machine only adds.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import jax

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests import small  # noqa: E402
from unijax import config_file  # noqa: E402
from unijax.data.loader import Loader  # noqa: E402
from unijax.train import events, loop  # noqa: E402
from unijax.train.step import StepFunctions  # noqa: E402

WARM = 20  # first steps of a round that are not counted


def through_the_loop(config, steps: int) -> dict:
  """Seconds a step, by kind, and the growth of memory over the counted steps."""
  ends, memory = [], []

  def note(run, state, step):
    ends.append(time.perf_counter())
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    memory.append(pages * os.sysconf("SC_PAGE_SIZE"))

  with tempfile.TemporaryDirectory() as folder:
    loop.train(config, folder, [loop.Hook(1, note)])
    spent = collections.Counter()
    for line in events.read(pathlib.Path(folder)):
      if line["event"] == "spans" and line["first"] >= WARM:
        spent.update(line["seconds"])
  counted = [b - a for a, b in zip(ends[WARM:-2], ends[WARM + 1 : -1], strict=True)]
  mean = {k: spent[k] / (steps - WARM) for k in ("data_wait", "other")}
  return {
    "step": statistics.median(counted), **mean, "grown": memory[-2] - memory[WARM]
  }  # fmt: skip


def bare(functions: StepFunctions, batches: list, steps: int) -> float:
  """Seconds a step of the compiled function alone."""
  state, ahead, ends = functions.init(), collections.deque(), []
  for step in range(steps):
    state, metrics = functions.train(state, batches[step % len(batches)])
    ahead.append(metrics["loss"].total)
    if len(ahead) > loop.AHEAD:
      jax.block_until_ready(ahead.popleft())
    ends.append(time.perf_counter())
  jax.block_until_ready(state)
  counted = [b - a for a, b in zip(ends[WARM:-1], ends[WARM + 1 :], strict=True)]
  return statistics.median(counted)


def main() -> None:
  """Prints one line a round and a RESULT."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--rounds", type=int, default=3)
  args, rest = parser.parse_known_args()
  if rest:
    config = config_file.load([*rest, f"--config.train.steps={args.steps}"])
  else:
    config = small.scenes(train__steps=args.steps, train__log_every=20)
  loader = Loader(config)
  functions = StepFunctions(config, loader.builder.vocabulary.size)
  batches = [jax.device_put(loader.batch(i)) for i in range(8)]
  rounds = []
  for number in range(args.rounds):
    whole = through_the_loop(config, args.steps)
    whole["bare"] = bare(functions, batches, args.steps)
    rounds.append(whole)
    print(
      f"round {number + 1}: "
      + "  ".join(f"{k} {v * 1e3:.3f} ms" for k, v in whole.items() if k != "grown")
      + f"  memory {whole['grown'] / 2**20:+.1f} MiB"
    )
  best = {k: min(r[k] for r in rounds) for k in ("step", "bare", "data_wait", "other")}
  over = best["step"] - best["bare"]
  result = {k: round(v * 1e3, 4) for k, v in best.items()}
  result |= {
    "over_ms": round(over * 1e3, 4),
    "over_share": round(over / best["bare"], 4),
    "grown_mib": [round(r["grown"] / 2**20, 2) for r in rounds],
  }
  print("RESULT " + json.dumps({"verb": "bench loop", "unit": "ms a step", **result}))


if __name__ == "__main__":
  main()
