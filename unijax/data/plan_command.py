"""The verb `unijax data plan`: how full rows are, and what is in them."""

import argparse
import collections

from unijax.config import Config
from unijax.data.document import DataError
from unijax.report import plain_table

TARGET = 0.03  # padding that a plan should stay below


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of `unijax data plan`; the config comes from the caller."""
  parser.add_argument(
    "--steps", type=int, default=100, help="to plan from the first (default: 100)"
  )
  parser.add_argument(
    "--folder",
    help="where windows are kept, to go on from there: WORKDIR/plan of a run",
  )


def run(args: argparse.Namespace, config: Config) -> dict:
  """Plans the rows of the first steps and prints what they hold; returns the RESULT.

  Whole windows are planned, so the shares are those of the windows that the steps need.
  """
  from unijax.data.loader import Loader  # grain takes a while to import

  if args.steps < 1:
    raise DataError(f"data plan: --steps must be at least 1, got {args.steps}")
  loader = Loader(config, folder=args.folder)
  rows = args.steps * config.train.batch_size
  sources, images, fills = collections.Counter(), [], collections.Counter()
  for row in range(rows):
    numbers = loader.rows.plan.documents(row)
    sizes = loader.rows.plan.sizes(row)
    images.append(sum(count for _, count in sizes))
    for number, (positions, _) in zip(numbers, sizes, strict=True):
      name = loader.stream.sources[loader.stream.mixture.locate(number)[0]].name
      sources[name] += 1
      fills[name] += positions
  loader.rows.save(now=True)
  plan, documents = loader.rows.plan, sum(sources.values())
  padding = plan.padding_until(rows - 1)
  result = {
    "verb": "data plan",
    "plan_hash": loader.plan_hash,
    "rows": rows,
    "documents": documents,
    "windows": len(plan.windows),
    "padding": round(padding, 5),
    "images_a_row": {"mean": round(sum(images) / rows, 3), "most": max(images)},
    "documents_by_source": {k: round(n / documents, 5) for k, n in sources.items()},
    "positions_by_source": {
      name: round(n / sum(fills.values()), 5) for name, n in fills.items()
    },
  }
  _show(result, config, loader)
  return result


def _show(result: dict, config: Config, loader) -> None:
  most, data = config.data.images_per_row, config.data
  print(f"plan {result['plan_hash']}")
  print(
    f"{result['rows']:,} rows of {data.seq_len} positions hold "
    f"{result['documents']:,} documents, {result['documents'] / result['rows']:.2f} a "
    f"row; windows of {data.window} documents"
  )
  images = result["images_a_row"]
  print(
    f"images a row: {images['mean']} on average, {images['most']} of {most} at most"
  )
  total = sum(entry.weight for entry in loader.entries)
  rows = []
  for entry in loader.entries:
    documents = result["documents_by_source"].get(entry.name, 0.0)
    positions = result["positions_by_source"].get(entry.name, 0.0)
    shares = (entry.weight / total, documents, positions)
    rows.append([entry.name, *(f"{share:.4f}" for share in shares)])
  print(plain_table(["source", "weight", "documents", "positions"], rows))
  padding = result["padding"]
  print(f"padding: {padding:.2%} of all positions")
  if padding > TARGET:
    why = "raise data.images_per_row" if images["most"] == most else "raise data.window"
    print(f"that is more than {TARGET:.0%}: {why}")
