"""Systems side by side: each is trained for the same FLOPs, then scored alike.

Every config has a process of its own, so that memory is freed and a crash is one row of
the table. `compare_one` is what runs in it; `compare_page` shows what they found. The
folder of a comparison holds a run folder a config, and compare.json, index.html,
compare.png and compare.md.
"""

import json
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from unijax.config import ConfigError
from unijax.disk import write_whole
from unijax.evals import compare_page

STOPPED = (75, 130)  # exit codes of a run that was asked to stop and has saved


def run(
  configs: Sequence[str], flops: float, workdir: str, *,
  out: str = "", overrides: Sequence[str] = (), prompts: int = 100,
  say: Callable[[str], None] = print,
) -> dict:  # fmt: skip
  """Trains and scores what is not yet done; writes the table and the pages.

  Args:
    configs: FILE[:preset] each.
    flops: of the training of each, forward and backward.
    workdir: for the run folders.
    out: folder of the table and the pages; '' is `workdir`.
    overrides: `--config.a.b=value`, for all of them.
    prompts: of a task and split; pictures for a codec.
    say: takes lines for people.

  Returns:
    What compare.json holds.

  Raises:
    ConfigError: a budget that is none; two configs of one name.
    KeyboardInterrupt: a run was stopped; the same command goes on.
  """
  if flops <= 0 or prompts < 1:
    raise ConfigError(f"--flops={flops:g}, --eval-prompts={prompts}: give more than 0")
  names = [name_of(config) for config in configs]
  twice = sorted({n for n in names if names.count(n) > 1})
  if twice:
    raise ConfigError(f"two configs would share the run folder {twice[0]!r}")
  folder, results = pathlib.Path(workdir), []
  folder.mkdir(parents=True, exist_ok=True)
  for number, (name, config) in enumerate(zip(names, configs, strict=True), 1):
    job = {
      "name": name, "config": config, "overrides": list(overrides), "flops": flops,
      "prompts": prompts, "workdir": str(folder / name),
    }  # fmt: skip
    results.append(_process(job, folder))
    say(f"[{number}/{len(names)}] {_line(results[-1])}")
  found = {"flops": flops, "prompts": prompts, "overrides": list(overrides)}
  found["systems"] = results
  place = pathlib.Path(out) if out else folder
  place.mkdir(parents=True, exist_ok=True)
  write_whole(place / "compare.json", json.dumps(found, indent=1) + "\n")
  compare_page.write(place, folder, found)
  return found


def name_of(config: str) -> str:
  """'configs/codecs/vq.py:tiny' -> 'codecs-vq-tiny': what its run folder is called."""
  file, _, preset = config.partition(":")
  path = pathlib.Path(file)
  parts = [path.stem] if path.parent.name in ("", "configs") else [
    path.parent.name, path.stem
  ]  # fmt: skip
  return re.sub(r"[^\w.-]+", "_", "-".join([*parts, *([preset] if preset else [])]))


def _process(job: dict, folder: pathlib.Path) -> dict:
  """Runs a job in a process; its scores, or the error of its one message."""
  log = folder / f"{job['name']}.log"
  command = [sys.executable, "-m", "unijax", "compare", "--one", json.dumps(job)]
  began = time.monotonic()
  with log.open("w") as file:
    process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
      code = process.wait()
    except KeyboardInterrupt:
      process.wait()  # it was told as well, and saves
      raise
  if code in STOPPED:
    raise KeyboardInterrupt
  if code == 0:
    path = pathlib.Path(job["workdir"]) / "scores.json"
    return json.loads(path.read_text())["result"]
  return {
    "name": job["name"], "config": job["config"], "error": _error(log, code),
    "log": str(log), "seconds": round(time.monotonic() - began, 1),
  }  # fmt: skip


def _error(log: pathlib.Path, code: int) -> str:
  """The message of a failed verb, on one line; else what is left of it."""
  text = log.read_text(errors="replace")
  said = re.split(r"^unijax: ", text, flags=re.MULTILINE)
  if len(said) > 1:
    line = " ".join(said[-1].split())
  else:
    line = f"exit code {code}: " + (text.strip().splitlines() or ["nothing said"])[-1]
  return line if len(line) < 400 else line[:397] + "..."


def _line(result: dict) -> str:
  if "error" in result:
    return f"{result['name']}: failed: {result['error']}"
  scores = [
    f"{name} {values[0]:.3f}" for name, values in list(result["scores"].items())[:4]
  ]
  return (
    f"{result['name']}: {result['parameters']:,} parameters, "
    f"{result['steps']} steps of {result['flops_per_step']:.3g} FLOPs, "
    f"{result['seconds']['training']:.0f} s; {', '.join(scores)}"
  )
