"""`unijax import`, `export` and `ckpt convert`: released models, in and out."""

import pathlib

IMPORT = """examples:
  unijax import autoencoder_kl downloads/sdxl-vae --out=runs/sdxl-vae
  unijax import autoencoder_kl ae.safetensors --size=flux --out=runs/flux-vae
  unijax import my_system.py downloads/model --out=runs/mine

PATH is a file .safetensors, an index of several, or the folder of a release. Names and
shapes are compared before any number is read; whatever is missing, unknown or misfits
is listed, and nothing is written. A pickle (.bin, .pt, .pth, .ckpt) is never loaded:
`unijax ckpt convert` turns one of plain tensors into .safetensors.

A run folder is written: `unijax eval --workdir=RUN` and `unijax sample --workdir=RUN`
take it as any other, --init-from=RUN begins from it, and a codec serves as
--config.data.codec=RUN. RUN/config.py is its config file."""

EXPORT = """examples:
  unijax export runs/sdxl-vae --out=exported
  unijax export runs/kl@2000 --system=autoencoder_kl --dtype=float16 --out=exported

Written are weights and config.json in the layout of the system: the one that the run
was imported from, or --system for a run that was trained here."""


def add_import(verb) -> None:
  """Adds the arguments of `unijax import`."""
  sub = verb("import", "Make a run of a released model.", IMPORT)
  sub.add_argument("system", metavar="SYSTEM", help="file of configs/released/, or .py")
  sub.add_argument("path", metavar="PATH", help="the released weights, or their folder")
  sub.add_argument("--out", required=True, metavar="RUN", help="a new run folder")
  sub.add_argument("--size", default="", help="which one, where it has no config.json")
  sub.add_argument(
    "--codec", default="", metavar="RUN",
    help="take its tokenizer of pictures; files may lack the half that draws",
  )  # fmt: skip


def add_export(verb) -> None:
  """Adds the arguments of `unijax export`."""
  sub = verb("export", "Write a run as a released system has it.", EXPORT)
  sub.add_argument("run", metavar="RUN[@STEP]")
  sub.add_argument("--out", required=True, metavar="DIR", help="a new folder")
  sub.add_argument(
    "--to", choices=("hf",), default="hf",
    help="hf: what Hugging Face libraries load: safetensors and config.json",
  )  # fmt: skip
  sub.add_argument("--system", default="", help="if the run was not imported")
  sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                   default="float32")  # fmt: skip
  sub.add_argument(
    "--weights", choices=("ema", "params"), default="ema",
    help="averaged weights, or those of the last step",
  )  # fmt: skip


def run_import(args) -> dict:
  """Runs `unijax import`; returns what was written."""
  from unijax.interop.importing import import_run

  made = import_run(args.system, args.path, args.out, args.size, codec=args.codec)
  return {"verb": "import", **made}


def run_export(args) -> dict:
  """Runs `unijax export`; returns what was written."""
  from unijax.interop.exporting import export_run

  done = export_run(args.run, args.out, args.system, args.weights, args.dtype)
  return {"verb": "export", **done}


def convert(args) -> dict:
  """Runs `unijax ckpt convert`; returns what was written."""
  from unijax.interop import torch_file

  count, size = torch_file.convert(pathlib.Path(args.file), pathlib.Path(args.out))
  print(f"wrote {count} arrays to {args.out} ({size:,} bytes)")
  return {"arrays": count, "bytes": size, "out": args.out}
