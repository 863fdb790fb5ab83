"""A job alone, as launchers of other programs start it: its code, and who stops it."""

import json
import subprocess
import sys
import time

from tests.conftest import ROOT
from unijax.sweep import alone
from unijax.sweep.jobs import JobSpec, Resources
from unijax.sweep.pool import RECORD


def test_a_job_alone_ends_with_the_code_of_its_own(tmp_path):
  folder = tmp_path / "a"
  for code, state in ((0, "done"), (3, "failed"), (76, "stopped")):
    job = JobSpec(
      "a", ("bash", "-c", f'test "$A" = "b c" || exit 9; exit {code}'), str(folder),
      (("A", "b c"),), Resources("h100:8", 1), retries=0,
    )  # fmt: skip
    alone.write(job)
    assert alone.read(folder) == job
    words = [sys.executable, "-m", "unijax.sweep.alone", str(folder)]
    assert subprocess.run(words, cwd=ROOT).returncode == code
    assert json.loads((folder / RECORD).read_text())["state"] == state


def test_a_job_alone_saves_when_its_launcher_is_killed(tmp_path):
  """The launcher is no parent of it: a shell stands between them, as with XManager."""
  folder = tmp_path / "a"
  save = f"trap 'touch {folder}/saved; exit 75' TERM; touch {folder}/began"
  loop = "while :; do sleep 0.05; done"
  alone.write(JobSpec("a", ("bash", "-c", f"{save}; {loop}"), str(folder)))
  launcher = subprocess.Popen(["sleep", "1000"])
  words = [sys.executable, "-m", "unijax.sweep.alone", str(folder), str(launcher.pid)]
  process = subprocess.Popen(words, cwd=ROOT)
  deadline = time.monotonic() + 60
  while not (folder / "began").exists():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.01)
  assert process.poll() is None
  launcher.kill()
  launcher.wait()
  assert process.wait(60) == 75 and (folder / "saved").exists()
