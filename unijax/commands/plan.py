"""`unijax plan`: what a pod would do with a config, without the pod."""

import argparse
import json

from unijax.asked import asked_file
from unijax.disk import write_whole

EPILOG = """examples:
  unijax plan --config=configs/transfusion.py:7B --topology=v5p:4x4x4
  unijax plan --config=configs/transfusion.py:7B --topology=v5e:16x16 --slices=2
  unijax plan --config=configs/transfusion.py:tiny --topology=cpu:8 --json=plan.json
  unijax plan --config=configs/transfusion.py:7B --topology=v5p:2x2x1 --sampling

v5p:4x4x4 is 64 chips (Google Cloud's v5p-128 counts TensorCores); v5e and v6e are named
by chips in both. Compiling takes from seconds to minutes. Stages whose steps differ are
planned one after the other, or one with --stage. Exit code 4: does not fit.
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
  """The arguments of the verb, besides the config's."""
  sub.add_argument(
    "--topology", required=True, help="v5e:4x4, v6e:16x16, v5p:8x8x16, or cpu:8"
  )
  sub.add_argument("--slices", type=int, default=1, help="slices joined by DCN")
  sub.add_argument("--stage", metavar="NAME", help="plan only this stage of the run")
  sub.add_argument(
    "--search", type=int, default=3, metavar="N",
    help="where it does not fit, compile up to N changes that might; default 3",
  )  # fmt: skip
  sub.add_argument(
    "--sampling", action="store_true", help="prefill, decode and denoise on one chip"
  )
  sub.add_argument("--rows", type=int, default=1, help="prompts of --sampling")
  sub.add_argument("--hlo", metavar="FILE", help="write the compiled step there")
  sub.add_argument("--json", metavar="FILE", help="write everything there")


def run(args, overrides: list[str]) -> dict:
  """Prints the plan; the result is what the table says, without the longest parts."""
  from unijax import config_file
  from unijax.config import ConfigError
  from unijax.dryrun import table, topology

  for option, file in (("json", "plan.json"), ("hlo", "plan.hlo")):
    if getattr(args, option):  # said before minutes of compiling, not after
      setattr(args, option, asked_file(getattr(args, option), f"--{option}", file))
  config = config_file.load(overrides)
  for option, least in (("search", 0), ("rows", 1)):
    if getattr(args, option) < least:
      given = f"--{option}={getattr(args, option)}"
      raise ConfigError(f"{given}: must be at least {least}")
  name = topology.parse(args.topology, args.slices)
  topology.prepare(name)
  if args.sampling:
    from unijax.dryrun import sampling

    report = sampling.plan(config, name, args.rows)
    lines = table.sampling_lines(report)
  else:
    report = _training(config, name, args)
    lines = table.lines(report)
  print("\n".join(lines), flush=True)
  if args.json:
    write_whole(args.json, json.dumps(report, indent=1) + "\n")
  return {"verb": "plan", **report}


def _training(config, name, args) -> dict:
  """The report of the step, or of the steps of all stages that differ."""
  from unijax.config import ConfigError
  from unijax.dryrun import plan

  programs = plan.programs(config, args.stage)
  if args.hlo and len(programs) > 1:
    raise ConfigError(
      f"--hlo: the stages {', '.join(names[0] for names in programs.values())} have "
      "steps of their own: choose one with --stage"
    )
  reports = []
  for number, names in programs.items():
    report, text = plan.plan(config, name, args.search, number)
    reports.append({"stage": names, **report} if names else report)
    if args.hlo:
      write_whole(args.hlo, text)
  if len(reports) == 1:
    return reports[0]
  return {"fits": all(r["fits"] for r in reports), "stages": reports}
