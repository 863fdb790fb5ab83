"""What the loop costs over the bare compiled step, and whether memory stays flat.

  python tests/bench/loop.py [--steps=200] [--config=FILE:preset ...]

Three ways to do the same steps in one process, in turn, `--rounds` times: the bare step
on batches that are placed already, as many dispatched ahead; the loop (metrics, events,
watchdog) on batches that are built already; the loop with its loader, whose threads
build rows on the same cores. Time is taken over every EVERY steps; a round counts by its
median, and of the rounds the best counts, since whatever else runs on the machine only
adds.
"""

import argparse
import collections
import itertools
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
from unijax.train import loop, tasks  # noqa: E402
from unijax.train.functions import StepFunctions  # noqa: E402

EVERY = 20  # steps between looks at the clock; the first EVERY are not counted


class Ready(Loader):
  """Batches built before, again and again."""

  batches: list = []

  def iterate(self, step, part=None):
    """Yields them from `step` on; the plan, which the loop reports of, is made first."""
    self.padding(self.config.train.steps)
    return Again(self.batches, step)


class Again:
  """Batches from a list, for ever; closed like a reader."""

  def __init__(self, batches: list, step: int):
    self.endless = itertools.islice(itertools.cycle(batches), step, None)

  def __iter__(self):
    return self.endless

  def __next__(self):
    return next(self.endless)

  def close(self):
    """Nothing is open."""


def typical(times: list[float]) -> float:
  """Seconds a step: the median over stretches of EVERY steps."""
  stretches = zip(times, times[1:], strict=False)
  return statistics.median(b - a for a, b in stretches) / EVERY


def through_the_loop(config, loader) -> tuple[float, float]:
  """Seconds a step, and growth of memory in bytes, after the first EVERY steps."""
  times, memory = [], []

  def look(run, state, step):
    times.append(time.perf_counter())
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    memory.append(pages * os.sysconf("SC_PAGE_SIZE"))

  tasks.UnifiedTask.loader = staticmethod(loader)
  with tempfile.TemporaryDirectory() as folder:
    loop.train(config, folder, [loop.Hook(EVERY, look)])
  return typical(times[:-1]), memory[-2] - memory[0]


def bare(functions: StepFunctions, batches: list, steps: int) -> float:
  """Seconds a step of the compiled function alone."""
  state, ahead, times = functions.init(), collections.deque(), []
  for step, batch in enumerate(itertools.islice(itertools.cycle(batches), steps)):
    if step and step % EVERY == 0:
      times.append(time.perf_counter())
    state, metrics = functions.train(state, batch)
    ahead.append(metrics["loss"].total)
    if len(ahead) > loop.AHEAD:
      jax.block_until_ready(ahead.popleft())
  jax.block_until_ready(state)
  return typical(times)


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
  Ready.batches = [loader.batch(i) for i in range(8)]
  placed = [jax.device_put(batch) for batch in Ready.batches]
  rounds, grown = [], []
  for number in range(args.rounds):
    ready, more = through_the_loop(config, Ready)
    loaded, _ = through_the_loop(config, Loader)
    rounds.append(
      {"bare": bare(functions, placed, args.steps), "loop": ready, "loaded": loaded}
    )
    grown.append(round(more / 2**20, 2))
    figures = "  ".join(f"{k} {v * 1e3:.3f} ms" for k, v in rounds[-1].items())
    print(f"round {number + 1}: {figures}  memory {grown[-1]:+} MiB", flush=True)
  best = {k: min(r[k] for r in rounds) for k in rounds[0]}
  over = best["loop"] - best["bare"]
  result = {
    **{k: round(v * 1e3, 4) for k, v in best.items()},
    "over": round(over * 1e3, 4),
    "over_share": round(over / best["bare"], 4),
    "grown_mib": grown,
  }
  print("RESULT " + json.dumps({"verb": "bench loop", "unit": "ms a step", **result}))


if __name__ == "__main__":
  main()
