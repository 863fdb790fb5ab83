"""The words that `unijax` and its verbs understand, and their help."""

import argparse

from unijax.commands import interop

EPILOG = """examples:
  unijax demo
  unijax train --config=configs/transfusion.py:tiny --workdir=runs/tiny
  unijax train --config=configs/transfusion.py:tiny --workdir=runs/wide \\
    --config.model.width=256 --config.train.steps=2000
  unijax train --config=configs/codecs/kl.py:tiny --workdir=runs/kl
  unijax sample --workdir=runs/tiny --prompt="a red circle above a blue square"
  unijax sample --workdir=runs/tiny --image=cat.png --prompt="what is this?"
  unijax sample --workdir=runs/tiny --interactive
  unijax eval --workdir=runs/tiny
  unijax plan --config=configs/transfusion.py:7B --topology=v5p:4x4x4
  unijax goodput runs/tiny
  unijax compare configs/chameleon.py configs/transfusion.py --flops=3e12
  unijax sweep run configs/studies/mask.py:tiny --root=runs/mask --seeds=3
  unijax data inspect --config=configs/transfusion.py:tiny --out=row.png
  unijax ckpt verify runs/tiny
  unijax import autoencoder_kl downloads/sdxl-vae --out=runs/vae
"""

STAGES = """
stages: a run may have parts with data, losses, rates and frozen parameters of their
own. In the config file:
  c.stages.text = {"steps": 500, "optim": {"freeze": ("patch_codec/*",)},
                   "data": {"sources": {"emoji": {"weight": 0.0}}}}
  c.stages.all = {"steps": 1500, "optim": {"learning_rate": 1e-4,
                                           "rates": (("embedding/*", 0.1),)}}
  c.train.stages, c.train.steps = ("text", "all"), 0
A glob's * stands for any part of a parameter's path, slashes too; "!glob" takes some
back: ("*", "!text_head/*") trains the text head alone. The end of a stage is always
saved and kept; resuming works inside stages and between them. optim.freeze and
optim.rates also stand in the config itself, so that stages may be runs:
  unijax train --config=my.py --workdir=runs/text --config.train.stages="('text',)"
  unijax train --config=my.py --workdir=runs/all --config.train.stages="('all',)" \\
    --init-from=runs/text
`unijax mesh explain` counts what each stage trains.
"""

COMPARE = """
A file without a preset is its tiny one. FLOPs are those of training, forward and
backward; steps, and the schedules that follow them, are what they buy. Each config has
a run folder in --workdir. The same command goes on with what is not finished; a config
that fails is a row with its error. Written: index.html, compare.png, compare.md and
compare.json."""

EXIT_CODES = """
exit codes: 0 done; 1 failed; 2 bad input, or diverged; 75 stopped by SIGTERM, saved;
76 hung (with guard.hang_exit); 130 stopped by Ctrl-C, saved. After 75, 76 and 130 the
same command goes on."""


def make_parser() -> argparse.ArgumentParser:
  """The parser of all verbs; `--config...` arguments are left to `config_file`."""
  parser = argparse.ArgumentParser(
    "unijax", description="Unified multimodal models in JAX: train, sample, score.",
    epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )  # fmt: skip
  verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

  def verb(name, text, epilog=""):
    sub = verbs.add_parser(
      name, help=text, description=text, allow_abbrev=False, epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return sub

  _add_train(verb)
  _add_sample(verb)
  _add_eval(verb)
  _add_data(verb)
  _add_plan(verb)
  _add_goodput(verb)
  _add_ckpt(verb)
  _add_demo(verb)
  _add_mesh(verb)
  _add_systems(verb)
  _add_compare(verb)
  _add_sweep(verb)
  interop.add_import(verb)
  interop.add_export(verb)
  return parser


def _add_train(verb) -> None:
  sub = verb(
    "train", "Train a config, or resume its run.",
    "examples:\n"
    "  unijax train --config=configs/transfusion.py:tiny --workdir=runs/tiny\n"
    "  unijax train --config=configs/transfusion.py:tiny --workdir=runs/tiny \\\n"
    "    --rewind=1200 --skip-steps=1310:1320\n"
    "  unijax train --config=runs/in/config.py --init-from=runs/in \\\n"
    "    --workdir=runs/tuned --config.lora.rank=16    low-rank pairs alone\n"
    + STAGES + EXIT_CODES,
  )  # fmt: skip
  sub.add_argument("--workdir", required=True, help="directory of the run")
  sub.add_argument(
    "--rewind", type=int, metavar="STEP",
    help="go back to this checkpoint first; later ones are moved to rewound/",
  )  # fmt: skip
  sub.add_argument(
    "--skip-steps", metavar="A:B",
    help="with --rewind: never read batches A to B - 1 (train/batch in metrics.jsonl)",
  )  # fmt: skip
  sub.add_argument(
    "--processes", metavar="auto|HOST:PORT,COUNT,INDEX",
    help="join the other processes of a pod: 'auto' finds them (TPU pods, Slurm), or "
    "name the first one, how many there are and which this one is",
  )  # fmt: skip
  start = sub.add_argument_group("where it starts (the first that applies)")
  start.add_argument(
    "--resume", choices=("auto", "never", "must"), default="auto",
    help="go on with the run in --workdir: if there is one, refuse it, or insist",
  )  # fmt: skip
  start.add_argument(
    "--resume-from", default="", metavar="WORKDIR[@STEP]",
    help="begin with the whole state of another run",
  )  # fmt: skip
  start.add_argument(
    "--init-from", default="", metavar="WORKDIR[@STEP][:REGEX=>NAME[|NAME..],..]",
    help="begin at step 0 with parameters of another run, renamed where a REGEX is the "
    "whole old name; an empty NAME leaves them out",
  )  # fmt: skip
  start.add_argument(
    "--init-allow", default="", metavar="KINDS",
    help="what --init-from puts up with: missing,unexpected,misfit (default: nothing)",
  )  # fmt: skip


def _add_sample(verb) -> None:
  sub = verb(
    "sample", "Draw, describe, answer and edit with a trained run.",
    'example: unijax sample --workdir=runs/tiny --prompt="a red circle" --count=4',
  )  # fmt: skip
  sub.add_argument("--workdir", required=True, help="directory of a trained run")
  sub.add_argument("--prompt", help="what the user says")
  sub.add_argument("--image", action="append", default=[], help="picture file to read")
  sub.add_argument(
    "--conditions", metavar="FILE.safetensors",
    help="draw from vectors of encoders elsewhere, for runs without one: vectors "
    "[N, S, E], pooled [N, W], and negative_vectors .. for guidance",
  )  # fmt: skip
  sub.add_argument("--out", default="sample.png", help="picture to write, or a folder")
  sub.add_argument("--count", type=int, default=1, help="answers to the same prompt")
  sub.add_argument("--seed", type=int, default=0)
  sub.add_argument("--step", type=int, help="checkpoint; the latest if not given")
  sub.add_argument(
    "--begin", choices=("auto", "image", "text"), default="auto",
    help="let the model choose, or begin with an image, or write only text",
  )  # fmt: skip
  sub.add_argument(
    "--think", action="store_true",
    help="with --begin=image: write text first, and draw where it ends; what the run's "
    "sample.think_draw (or think_answer) says stands before",
  )  # fmt: skip
  sub.add_argument("--interactive", action="store_true", help="keep a conversation")
  sampling = sub.add_argument_group("sampling (the run's values if not given)")
  sampling.add_argument("--sampler", choices=("ddpm", "ddim", "euler", "heun"))
  sampling.add_argument("--steps", type=int, help="solver steps")
  sampling.add_argument("--guidance", type=float, help="guidance scale; 1 is off")
  sampling.add_argument(
    "--guidance-low", type=float, help="timestep above which guidance acts"
  )
  sampling.add_argument(
    "--guidance-image", type=float, help="scale of guidance by shown pictures; 1 is off"
  )
  sampling.add_argument(
    "--guidance-renorm",
    choices=("none", "patch", "image", "text_patch"),
    help="of what a guided step is no longer than an unguided one",
  )
  sampling.add_argument(
    "--guidance-told", type=float, help="scale that the model is told, where it is"
  )
  sampling.add_argument("--negative-prompt", help="what guidance contrasts with")
  sampling.add_argument(
    "--layers-apart", action="store_true", default=None,
    help="weights laid out for writing: more to compile, fast for long answers",
  )  # fmt: skip
  sampling.add_argument("--temperature", type=float, help="of text; 0 is greedy")
  sampling.add_argument("--top-k", type=int)
  sampling.add_argument("--top-p", type=float)
  sampling.add_argument("--min-p", type=float)


def _add_eval(verb) -> None:
  sub = verb(
    "eval", "Score a trained run on everything its data allow.",
    "example: unijax eval --workdir=runs/tiny --split=iid --items=100",
  )  # fmt: skip
  sub.add_argument("--workdir", required=True, help="directory of a trained run")
  sub.add_argument("--step", type=int, help="checkpoint; the latest if not given")
  sub.add_argument("--split", action="append", help="of scenes; all if not given")
  sub.add_argument("--items", type=int, help="prompts a task and split")
  sub.add_argument("--report", help="write an HTML page there")


def _add_data(verb) -> None:
  from unijax.data import commands

  sub = verb("data", "Prepare data sets, and look at what a model is fed.")
  commands.add_arguments(sub)


def _add_plan(verb) -> None:
  from unijax.commands import plan

  text = "Dry-run a config on a described pod: memory, network, floors."
  plan.add_arguments(verb("plan", text, plan.EPILOG))


def _add_systems(verb) -> None:
  sub = verb(
    "systems", "Show every config file and the value it picks on each axis.",
    "examples:\n  unijax systems\n  unijax systems --sizes\n"
    "  unijax systems --released --devices=16 --write=configs/released/MEMORY.md\n"
    "  unijax systems --write=WORKSPACE.md",
  )  # fmt: skip
  sub.add_argument("--configs", default="configs", help="folder; default %(default)s")
  sub.add_argument(
    "--sizes", action="store_true", help="parameters beside published ones instead"
  )
  sub.add_argument(
    "--released", action="store_true",
    help="memory that released models need, counted from shapes, instead",
  )  # fmt: skip
  sub.add_argument(
    "--devices", type=int, default=16,
    help="with --released: that a training state is divided over; default %(default)s",
  )  # fmt: skip
  sub.add_argument(
    "--write", metavar="FILE", default="",
    help="also put the tables between the marks of a Markdown file",
  )  # fmt: skip


def _add_compare(verb) -> None:
  sub = verb(
    "compare", "Train systems for the same FLOPs, score and draw them side by side.",
    "examples:\n"
    "  unijax compare configs/chameleon.py:tiny configs/transfusion.py:tiny \\\n"
    "    --flops=3e13 --workdir=runs/compare\n"
    "  unijax compare configs/*.py --flops=3e13 --workdir=runs/compare --out=pages\n"
    "  unijax compare configs/codecs/*.py --flops=2e13 --workdir=runs/codecs \\\n"
    "    --config.codec.width=24\n" + COMPARE,
  )  # fmt: skip
  sub.add_argument(
    "configs", nargs="*", metavar="CONFIG", help="FILE[:preset], several"
  )
  sub.add_argument("--one", metavar="JOB", help=argparse.SUPPRESS)
  sub.add_argument(
    "--flops", type=float, default=3e13, help="of each training; default %(default)g"
  )
  sub.add_argument("--workdir", default="runs/compare", help="default: %(default)s")
  sub.add_argument("--out", default="", help="where table and pages go; --workdir")
  sub.add_argument(
    "--eval-prompts", type=int, default=100, metavar="N",
    help="scored of each task and split; default %(default)s",
  )  # fmt: skip


def _add_sweep(verb) -> None:
  from unijax.commands import sweep

  text = "Run a study: many trainings, one table, whatever kills the driver."
  sweep.add_arguments(verb("sweep", text, sweep.EXAMPLES))


def _add_goodput(verb) -> None:
  sub = verb(
    "goodput", "Show where the time of a run went, restarts included.",
    "example: unijax goodput runs/tiny",
  )  # fmt: skip
  sub.add_argument("workdir", help="directory of a run, also of one that is running")


def _add_ckpt(verb) -> None:
  from unijax.commands import ckpt

  sub = verb(
    "ckpt", "List, verify, compare, remove and export checkpoints.",
    ckpt.EXAMPLES,
  )  # fmt: skip
  ckpt.add_arguments(sub)


def _add_demo(verb) -> None:
  sub = verb("demo", "Train on embedded data, score exactly, write a report.")
  sub.add_argument("--long", action="store_true", help="about an hour, up to 3 objects")
  sub.add_argument("--workdir", help="default: runs/demo or runs/demo-long")


def _add_mesh(verb) -> None:
  sub = verb(
    "mesh", "Explain how a config's state lies on a mesh of devices.",
    "example: unijax mesh explain --config=configs/transfusion.py:7B --devices=256 \\\n"
    "  --config.mesh.preset=fsdp_tp --config.mesh.tensor=8",
  )  # fmt: skip
  sub.add_argument("what", choices=("explain",), help="a table of every parameter")
  sub.add_argument("--devices", type=int, default=8, help="default: %(default)s")
  sub.add_argument("--slices", type=int, default=1, help="groups with a fast network")
