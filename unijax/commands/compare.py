"""`unijax compare`: systems side by side after the same number of FLOPs."""

import json
import pathlib

from unijax import config_file
from unijax.asked import asked_folder
from unijax.commands.systems import NOT_SYSTEMS, PRESET
from unijax.config import ConfigError
from unijax.evals import compare, compare_one


def run(args, overrides: list[str]) -> dict:
  """Compares, or does one job of a comparison; returns the figures.

  Raises:
    ConfigError: `--config FILE` where files stand alone, and what `compare.run` finds.
  """
  if args.one:  # what this command starts itself, a process a config
    return {"verb": "compare", **compare_one.run(json.loads(args.one))}
  config_file.check_values(overrides)
  chosen = [c if ":" in c else f"{c}:{PRESET}" for c in args.configs if _is_system(c)]
  if not chosen:
    raise ConfigError("name config files, such as configs/transfusion.py:tiny")
  place = asked_folder(args.out or args.workdir, "--out" if args.out else "--workdir")
  found = compare.run(
    chosen, args.flops, args.workdir,
    out=args.out, overrides=overrides, prompts=args.eval_prompts,
  )  # fmt: skip
  print((place / "compare.md").read_text())
  failed = [x["name"] for x in found["systems"] if "error" in x]
  return {
    "verb": "compare", "systems": len(found["systems"]), "failed": failed,
    "flops": args.flops, "report": str((place / "index.html").absolute()),
    "scores": {x["name"]: x["scores"] for x in found["systems"] if "scores" in x},
  }  # fmt: skip


def _is_system(config: str) -> bool:
  """Whether a file is one; `configs/*.py` names others too."""
  system = pathlib.Path(config.partition(":")[0]).name not in NOT_SYSTEMS
  if not system:
    print(f"{config}: no system, left out")
  return system
