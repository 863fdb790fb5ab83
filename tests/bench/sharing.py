"""Time of a training step by way of sharing, against the dense model of equal FLOPs.

  python tests/bench/sharing.py
  python tests/bench/sharing.py --width 768 --rounds 9

Forward, backward and update of the same rows, half of whose positions are patches. All
ways are measured in turn in every round, so that a change of the machine's speed meets
all; the ratio of a round is to its dense model, above 1 where the dense one is faster.
The dense model has the active FLOPs of the routed one too: the expert width is what the
experts of a position leave of the MLP. `cpu` is the ratio of processor time, which other
programs on the machine disturb less.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402

from tests import small  # noqa: E402
from unijax.dryrun import flops  # noqa: E402
from unijax.nn.sharing import SHARING  # noqa: E402


def config(options, sharing: str):
  """Everything but the sharing is the same."""
  hidden = -(-options.width * 8 // 3 // 128) * 128
  return small.config(
    model__sharing=sharing, model__depth=options.depth, model__width=options.width,
    model__heads=options.width // 64, model__kv_heads=options.width // 64,
    model__head_dim=64, model__mlp_width=hidden, model__experts=8,
    model__experts_per_token=2, model__expert_width=hidden // 2,
    model__scan_unroll=options.depth, data__image_size=16, data__seq_len=256,
    train__batch_size=options.rows,
  )  # fmt: skip


def batch(c):
  """Each row: two documents of a sentence and an image of 64 patches."""
  words = "as many words as there are patches, about: x"
  document = lambda seed: small.Document(
    (small.Text(words), small.image(seed, size=16)), id=seed
  )
  rows = [[document(2 * i), document(2 * i + 1)] for i in range(c.train.batch_size)]
  return small.batch(c, *rows)


class Way:
  """A model that takes updates when asked."""

  def __init__(self, c):
    self.functions = small.StepFunctions(c, small.VOCABULARY.size)
    self.state = self.functions.init()
    self.batch = jax.device_put(batch(c))
    self.update()

  def update(self) -> tuple[float, float]:
    """Takes one; returns (seconds, seconds of processor time)."""
    began, worked = time.perf_counter(), time.process_time()
    self.state, metrics = self.functions.train(self.state, self.batch)
    jax.block_until_ready((self.state, metrics))
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
  """Prints a line a way and, last, RESULT with all figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name, value in dict(width=512, depth=2, rows=8, rounds=7).items():
    parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
  parser.add_argument("--ways", nargs="*", default=list(SHARING), choices=SHARING)
  options = parser.parse_args()
  ways, counted = {}, {}
  for name in dict.fromkeys(["shared", *options.ways]):
    c = config(options, name)
    print(f"compiling {name}", file=sys.stderr, flush=True)
    ways[name] = Way(c)
    row = flops.measure(ways[name].batch, c.model.image_mask)
    counted[name] = sum(flops.forward(c, small.VOCABULARY.size, row).values())
  rounds = []
  for _ in range(options.rounds):
    rounds.append({name: way.update() for name, way in ways.items()})
    now = {k: f"{s:.3f} ({cpu:.3f} cpu)" for k, (s, cpu) in rounds[-1].items()}
    print(f"round {len(rounds)}/{options.rounds}: {now}", file=sys.stderr, flush=True)
  found = {}
  for name in ways:
    ratio, cpu = (
      statistics.median(r[name][i] / r["shared"][i] for r in rounds) for i in (0, 1)
    )
    best = min(r[name][0] for r in rounds)
    cost = counted[name] / counted["shared"]
    found[name] = dict(ratio=ratio, cpu=cpu, best_seconds=best, flops=cost)
    print(
      f"{name:8} {best * 1e3 / options.rows:8.1f} ms a row at best   time x {ratio:.3f}"
      f"   cpu x {cpu:.3f}   active FLOPs x {cost:.3f}"
    )
  print("RESULT", json.dumps({**vars(options), "found": found}))


if __name__ == "__main__":
  main()
