"""Systems side by side: each is trained for the same FLOPs, then scored alike.

Every config has a process of its own, so that memory is freed and a crash is one row of
the table. `compare_one` is what runs in it; `compare_page` shows what they found. The
folder of a comparison holds a run folder a config, and compare.json, index.html,
compare.png and compare.md.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from unijax.config import ConfigError
from unijax.disk import write_whole
from unijax.evals import compare_page, figures
from unijax.train.interrupt import Interrupted, Preempted


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
    Interrupted: by Ctrl-C or SIGTERM, here or in the process of a config, after a run
      in training has saved; the same command goes on.
  """
  if flops <= 0 or prompts < 1:
    raise ConfigError(f"--flops={flops:g}, --eval-prompts={prompts}: give more than 0")
  names = [name_of(config) for config in configs]
  twice = sorted({n for n in names if names.count(n) > 1})
  if twice:
    raise ConfigError(f"two configs would share the run folder {twice[0]!r}")
  folder, results = pathlib.Path(workdir), []
  folder.mkdir(parents=True, exist_ok=True)
  with Child() as child:
    for number, (name, config) in enumerate(zip(names, configs, strict=True), 1):
      job = {
        "name": name, "config": config, "overrides": list(overrides), "flops": flops,
        "prompts": prompts, "workdir": str(folder / name),
      }  # fmt: skip
      results.append(_process(job, folder, child))
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


class Child:
  """Runs one process at a time; while open, what asks this one to stop goes to that.

  It saves and ends, and only then does this one. It is in a process group of its own,
  so that Ctrl-C at a terminal, which a whole group receives, reaches it once: the
  second interrupts a run in training at once.
  """

  def __init__(self):
    self.asked: int | None = None  # the first signal
    self.process: subprocess.Popen | None = None
    self._before: dict[int, object] = {}

  def __enter__(self) -> "Child":
    if threading.current_thread() is threading.main_thread():
      both = signal.SIGINT, signal.SIGTERM
      self._before = {number: signal.signal(number, self._tell) for number in both}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def run(self, command: list[str], **options) -> int:
    """Runs a command to its end; returns its exit code. Options are those of Popen.

    Raises:
      Interrupted: this process was asked to stop, or that one was and has saved.
    """
    self.process = subprocess.Popen(command, process_group=0, **options)
    if self.asked is not None:  # before there was anybody to tell
      self.process.send_signal(self.asked)
    code = self.process.wait()
    if self.asked is None and code not in (Preempted.code, Interrupted.code):
      return code
    by_hand = signal.SIGINT == (self.asked or code - 128)
    raise (Interrupted if by_hand else Preempted)("stopped; the same command goes on")

  def _tell(self, number: int, frame) -> None:
    self.asked = self.asked or number
    if self.process is not None:
      self.process.send_signal(number)


def _process(job: dict, folder: pathlib.Path, child: Child) -> dict:
  """Runs a job in a process; its scores, or the error of its one message."""
  log = folder / f"{job['name']}.log"
  command = [sys.executable, "-m", "unijax", "compare", "--one", json.dumps(job)]
  began = time.monotonic()
  with log.open("w") as file:
    code = child.run(command, stdout=file, stderr=subprocess.STDOUT)
  if code == 0:
    path = pathlib.Path(job["workdir"]) / figures.SCORES
    return json.loads(path.read_text())["result"]
  return {
    "name": job["name"], "config": job["config"], "error": why(log, code),
    "log": str(log), "seconds": round(time.monotonic() - began, 1),
  }  # fmt: skip


def why(log: pathlib.Path, code: int) -> str:
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
