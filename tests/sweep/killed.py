"""Sweeps whose driver is killed: a driver of trials that are tiny programs."""

import pathlib
import sys
import time

from tests.sweep import made
from unijax.sweep import drive, trials
from unijax.sweep.jobs import JobSpec
from unijax.sweep.trials import Found

CRASHES = "004-0"  # the trial that always fails
STEPS = 8
TRIAL = f"""
import json, os, pathlib, signal, sys, time
folder, asked = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
if folder.name == {CRASHES!r}:
  sys.exit("unijax: it would not")
saved = folder / "steps.txt"  # as a checkpoint: what is in it is never done again
for step in range(len(saved.read_text().split()) if saved.exists() else 0, {STEPS}):
  if asked:
    time.sleep(0.1)  # saving takes a while, in which the next driver may begin
    sys.exit(75)
  time.sleep(0.03)
  with saved.open("a") as file:
    file.write(f"{{step}}\\n")
trial = json.loads((folder / "trial.json").read_text())
score = [trial["number"] / 10 + trial["seed"] / 100]
result = {{"steps": {STEPS}, "flops": 1.0, "scores": {{"draw": score}}, "about": {{}}}}
part = folder / "scores.part"
part.write_text(json.dumps({{"key": trial["key"], "result": result}}))
os.replace(part, folder / "scores.json")
with (folder / "ends.txt").open("a") as file:
  file.write("once\\n")
"""


def write(root: pathlib.Path) -> None:
  """Twelve trials: six points of two seeds."""
  for number in range(6):
    for seed in range(2):
      trials.write(root, made.trial(number, seed))


def job(found: Found) -> JobSpec:
  """What trains a trial here."""
  command = (sys.executable, "-S", "-E", "-c", TRIAL, str(found.folder))
  return JobSpec(found.trial.name, command, str(found.folder))


def counts(root: pathlib.Path) -> dict[str, int]:
  """State -> trials, while a driver may be writing."""
  found = [f.state for f in trials.index(root)]
  return {state: found.count(state) for state in trials.STATES}


def wait(process, reached, seconds: float = 300.0) -> None:
  """Waits until something is true, while a driver runs."""
  until = time.monotonic() + seconds
  while not reached():
    assert process.poll() is None, f"the driver ended with {process.returncode}"
    assert time.monotonic() < until, "it took too long"
    time.sleep(0.01)


if __name__ == "__main__":
  drive.run(pathlib.Path(sys.argv[1]), slots=2, make_job=job)
