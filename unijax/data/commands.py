"""The verbs `unijax data prepare`, `inspect`, `plan` and `tokenizer`.

The command line calls `add_arguments` on its `data` parser and `run` on what was
parsed; `run` returns what goes on the RESULT line.
"""

import argparse
import dataclasses
import importlib
import json
import os
import sys
import time

from unijax.asked import asked_file, asked_folder
from unijax.config import Config, SourceConfig
from unijax.data import picture, plan_command, prepare, row_text, sources
from unijax.data.document import DataError
from unijax.data.images import SUFFIXES


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the sub-verbs to the parser of `unijax data`."""
  verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="VERB")
  add_prepare_arguments(
    verbs.add_parser(
      "prepare",
      help="write a source's documents as ArrayRecord files",
      description="Reads every document of a source once, checks it, and writes it to "
      "a new folder that a source of kind 'records' reads. Started again after an "
      "interruption it continues.",
    )
  )
  add_inspect_arguments(
    verbs.add_parser(
      "inspect",
      help="show rows as the model will read them",
      description="Builds rows exactly as training does and writes them as a picture: "
      "tokens, patches, images, documents and loss weights.",
    )
  )
  plan_command.add_arguments(
    verbs.add_parser(
      "plan",
      help="show how full rows are, what is in them, and the hash of the plan",
      description="Packs documents into rows exactly as training does, without "
      "reading pictures, and prints padding, images a row and the realised mixture.",
      epilog="example: unijax data plan --config=configs/transfusion.py:tiny",
    )
  )
  add_tokenizer_arguments(
    verbs.add_parser(
      "tokenizer",
      help="learn a byte-level BPE tokenizer from a config's text",
      description="Reads the first documents of the training stream and writes a "
      "tokenizer.json, for data.tokenizer.",
    )
  )


def add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of `unijax data tokenizer`; the config comes from the caller."""
  parser.add_argument("--out", required=True, help="tokenizer.json to write")
  parser.add_argument(
    "--size",
    type=int,
    default=512,
    help="ids, 256 bytes included (default: %(default)s)",
  )
  parser.add_argument(
    "--documents", type=int, default=20_000, help="to learn from (default: %(default)s)"
  )


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of `unijax data prepare`."""
  parser.add_argument("--out", required=True, help="folder to make")
  _add_source_arguments(parser, required=True)
  parser.add_argument(
    "--image-size", type=int, default=64, help="pixels a side (default: %(default)s)"
  )
  parser.add_argument(
    "--codec", default="", metavar="RUN",
    help="also keep the latents and codes that this codec makes of each picture; "
    "configs with data.codec=RUN then read them",
  )  # fmt: skip
  parser.add_argument(
    "--on-error",
    choices=("fail", "skip"),
    default="fail",
    help="at a document that cannot be read: stop, or leave it out and count it",
  )
  parser.add_argument(
    "--shard-documents",
    type=int,
    default=4096,
    help="documents of a file; an interruption loses at most as many "
    "(default: %(default)s)",
  )


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of `unijax data inspect`; the config comes from the caller."""
  _add_source_arguments(parser, required=False)
  parser.add_argument(
    "--rows", type=int, default=4, help="rows to show (default: %(default)s)"
  )
  parser.add_argument(
    "--step",
    type=int,
    default=0,
    help="training step whose batch is shown (default: %(default)s)",
  )
  parser.add_argument(
    "--out", default="rows.png", help="picture to write (default: %(default)s)"
  )
  parser.add_argument(
    "--columns",
    type=int,
    default=64,
    help="positions of a line of the picture (default: %(default)s)",
  )


def run(args: argparse.Namespace, config: Config | None = None) -> dict:
  """Runs what `add_arguments` parsed; returns the RESULT.

  `inspect`, `plan` and `tokenizer` need a config. Raises DataError or ConfigError with
  what is wrong and how to mend it.
  """
  if args.data_verb == "prepare":
    return run_prepare(args)
  if config is None:
    raise DataError(f"data {args.data_verb}: give a config with --config=FILE")
  if args.data_verb == "plan":
    return plan_command.run(args, config)
  if args.data_verb == "tokenizer":
    return run_tokenizer(args, config)
  return run_inspect(args, config)


def run_tokenizer(args: argparse.Namespace, config: Config) -> dict:
  """Learns a tokenizer and says how much text a token holds."""
  from unijax.data.train_tokenizer import train_tokenizer

  out = str(asked_file(args.out, "--out", "tokenizer.json"))
  ratios = train_tokenizer(config, out, args.size, args.documents)
  for kind, ratio in ratios.items():
    print(f"{kind:20s} {ratio:.2f} bytes a token")
  return {
    "verb": "data tokenizer",
    "out": os.path.abspath(out),
    "size": args.size,
    "bytes_a_token": {kind: round(ratio, 3) for kind, ratio in ratios.items()},
  }


def run_prepare(args: argparse.Namespace) -> dict:
  """Writes a source's documents; people read the progress on stderr."""
  started = time.monotonic()
  options = parse_options(args.option)
  asked_folder(args.out, "--out")
  entry = SourceConfig(name=args.kind, kind=args.kind, weight=1.0, options=options)
  source = sources.make_source(entry, args.image_size)
  info = prepare.prepare(
    source,
    args.out,
    on_error=args.on_error,
    shard_documents=args.shard_documents,
    codec=args.codec,
    described={"kind": args.kind, "options": {k: options[k] for k in sorted(options)}},
    attribution=attribution(args.kind),
    progress=prepare.show_progress,
  )
  skipped = {reason: entry["count"] for reason, entry in info["skipped"].items()}
  for reason, entry in info["skipped"].items():
    print(f"left out {entry['count']}: {reason}, first {entry['first'][0]}")
  print(
    f"{args.out}: {info['documents']} documents, {info['images']} images, "
    f"{len(info['shards'])} files"
  )
  return {
    "verb": "data prepare",
    "out": os.path.abspath(args.out),
    "documents": info["documents"],
    "images": info["images"],
    "text_bytes": info["text_bytes"],
    "bytes": sum(shard["bytes"] for shard in info["shards"]),
    "skipped": skipped,
    "content": info["content"],
    "seconds": round(time.monotonic() - started, 3),
  }


def run_inspect(args: argparse.Namespace, config: Config) -> dict:
  """Draws rows of a training batch and prints them as text."""
  from unijax.data.loader import Loader  # grain takes a while to import

  if args.rows < 1 or args.columns < 8:
    raise DataError("data inspect: --rows must be at least 1, and --columns 8")
  out = asked_file(args.out, "--out", "rows.png", SUFFIXES)
  if args.kind:
    entry = SourceConfig(args.kind, args.kind, 1.0, parse_options(args.option))
    data = dataclasses.replace(config.data, sources=(entry,))
    config = dataclasses.replace(config, data=data)
  elif args.option:
    raise DataError("data inspect: --option needs --kind")
  train = dataclasses.replace(config.train, batch_size=args.rows)
  loader = Loader(dataclasses.replace(config, train=train))
  batch = loader.batch(args.step)
  vocabulary, tokenizer = loader.builder.vocabulary, loader.builder.tokenizer
  drawn = picture.draw_rows(
    batch, vocabulary, tokenizer, config.data.patch_size, args.columns,
    loader.builder.codec,
  )  # fmt: skip
  out.parent.mkdir(parents=True, exist_ok=True)
  drawn.save(out)
  text = row_text.text_rows(batch, vocabulary, tokenizer)
  print(text.encode(sys.stdout.encoding or "utf-8", "replace").decode(errors="replace"))
  filled = float((batch.segment_BT > 0).mean())
  return {
    "verb": "data inspect",
    "out": os.path.abspath(out),
    "rows": args.rows,
    "documents": int(batch.segment_BT.max(axis=1).sum()),
    "filled": round(filled, 4),
    "trained_tokens": int((batch.text_weight_BT > 0).sum()),
    "trained_patches": int((batch.image_weight_BT > 0).sum()),
  }


def parse_options(pairs: list[str]) -> dict:
  """Returns {name: value} of 'name=value' strings; values are JSON, or else text.

  Raises DataError for a string without '=', or a name given twice.
  """
  options = {}
  for pair in pairs:
    name, separator, value = pair.partition("=")
    if not separator or not name:
      raise DataError(f"--option {pair!r}: write NAME=VALUE")
    if name in options:
      raise DataError(f"--option {name}: given twice")
    try:
      options[name] = json.loads(value)
    except ValueError:
      options[name] = value
  return options


def attribution(kind: str) -> str:
  """Returns the line of credit that the embedded data of this kind asks for, or ''."""
  module = importlib.import_module(sources.KINDS[kind].module)
  return module.attribution() if hasattr(module, "attribution") else ""


def _add_source_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
  known = ", ".join(sources.KINDS)
  extra = "" if required else "; without it the sources of the config"
  parser.add_argument(
    "--kind", required=required, help=f"kind of source: {known}{extra}"
  )
  parser.add_argument(
    "--option",
    action="append",
    default=[],
    metavar="NAME=VALUE",
    help="an option of the source, as in --option path=photos; may be repeated",
  )
