"""XManager, the real one: trials run here by it; what it would build and ask for.

Run with the extra `xm` installed: python -m pytest tests/sweep/test_xm.py
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.sweep.test_launching import HARD, PYTHON, TINY, launcher, run, tool
from tests.sweep.test_launching import ran as ran_of
from unijax.sweep.jobs import JobSpec, Resources
from unijax.sweep.pool import RECORD

pytest.importorskip("xmanager", reason="XManager is not installed: extra `xm`")

# Writes when it begins and ends, and ends with the next of its codes.
TRIAL = """
import json, pathlib, signal, sys, time
folder, codes, seconds = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
def write(name):
  with (folder / name).open("a") as file:
    file.write(f"{time.time()}\\n")
write("starts")
count = len((folder / "starts").read_text().split())
until = time.monotonic() + seconds
while time.monotonic() < until and not told:
  time.sleep(0.02)
write("ends")
sys.exit(75 if told else codes[min(count, len(codes)) - 1])
"""
HERE = """
import argparse, importlib.util, json, pathlib, sys
from unijax.sweep.jobs import JobSpec
spec = importlib.util.spec_from_file_location("launch_xm", "launch/xm.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
root, slots = pathlib.Path(sys.argv[2]), int(sys.argv[3])
jobs = [JobSpec(n, (sys.executable, "-c", sys.argv[1], str(root / n), json.dumps(c), s), str(root / n))
        for n, c, s in json.loads(sys.argv[4])]
args = argparse.Namespace(root=root, slots=slots, name="test of a space")
sys.exit(made.here(jobs, args))
"""


def start(root, jobs, slots=1) -> subprocess.Popen:
  """The local executor on trials (name, codes, seconds), in a process of its own."""
  root.mkdir(exist_ok=True)
  home = {
    **os.environ,
    "HOME": str(root.parent),
    "PYTHONPATH": str(ROOT),
  }  # ~/.xmanager
  words = [sys.executable, "-c", HERE, TRIAL, str(root), str(slots), json.dumps(jobs)]
  return subprocess.Popen(
    words,
    cwd=ROOT,
    env=home,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def times(path) -> list[float]:
  return [float(x) for x in path.read_text().split()] if path.exists() else []


def test_every_trial_runs_once_restarts_and_is_found_in_its_folder(tmp_path):
  root = tmp_path / "my runs"
  jobs = [
    ("a", [0], "0.5"),
    ("b", [75, 0], "0.2"),
    ("c", [3], "0.2"),
    ("d", [0], "0.5"),
  ]
  process = start(root, jobs, slots=2)
  out, _ = process.communicate(timeout=600)
  assert process.returncode == 1 and "3 of 4 trials are done" in out, out
  assert [len(times(root / n / "starts")) for n in "abcd"] == [1, 2, 1, 1]
  states = [json.loads((root / n / RECORD).read_text())["state"] for n in "abcd"]
  assert states == ["done", "done", "failed", "done"]
  events = [(t, 1) for n in "abcd" for t in times(root / n / "starts")]
  events += [(t, -1) for n in "abcd" for t in times(root / n / "ends")]
  at_once = [sum(s for _, s in sorted(events)[: i + 1]) for i in range(len(events))]
  assert max(at_once) <= 2
  process = start(root, [job for job in jobs if job[0] != "c"])
  out, _ = process.communicate(timeout=600)
  assert process.returncode == 0 and "3 of 3 trials are done" in out, out
  assert [len(times(root / n / "starts")) for n in "abd"] == [1, 2, 1], "nothing again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_launcher_stops_its_trials_which_save(tmp_path, number):
  root = tmp_path / "runs"
  process = start(root, [("a", [0], "1000"), ("b", [0], "0")])
  deadline = time.monotonic() + 600
  while not times(root / "a" / "starts"):
    assert time.monotonic() < deadline and process.poll() is None, process.communicate()
    time.sleep(0.05)
  process.send_signal(number)
  out, _ = process.communicate(timeout=600)
  assert process.returncode == (-9 if number == signal.SIGKILL else 75), out
  while not times(root / "a" / "ends"):
    assert time.monotonic() < deadline, "it trains on after its launcher died"
    time.sleep(0.05)
  assert not times(root / "b" / "starts")


def test_the_container_of_vertex_runs_the_command_as_it_is(
  tmp_path, monkeypatch, capfd
):
  """XManager's own Docker build, but for Docker: its entrypoint is run with bash."""
  from xmanager import xm, xm_local
  from xmanager.cloud import build_image, vertex

  made, folder, seen = launcher("xm"), tmp_path / "my-code", {}
  made.import_xm()
  folder.mkdir()
  monkeypatch.chdir(folder)
  tool(tmp_path, "python3", PYTHON)
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

  def built(path, dockerfile, name, *rest):
    seen["dockerfile"] = pathlib.Path(dockerfile).read_text()
    seen["entrypoint"] = (pathlib.Path(path) / "entrypoint.sh").read_text()
    return name

  monkeypatch.setattr(build_image, "build_by_dockerfile", built)
  job = JobSpec("a", ("python3", "-m", "unijax", "train", f"--config.x={HARD}"), "/gcs/r/a",
                resources=Resources("a100:8", 1, 8, 16))  # fmt: skip
  args = argparse.Namespace(image="", base_image="python:3.12-slim")
  packageable = made.package(xm, xm_local.Vertex.Spec(), args, [job])
  build_image.build(packageable.executable_spec, packageable.args, {}, "t")
  assert "FROM python:3.12-slim" in seen["dockerfile"]
  assert "COPY my-code/ /my-code\nWORKDIR /my-code\n" in seen["dockerfile"]
  assert "pip install --no-cache-dir '.[cuda]'" in seen["dockerfile"]
  words = xm.merge_args(packageable.args, list(job.command)).to_list(str)
  (tmp_path / "entrypoint.sh").write_text(seen["entrypoint"])
  assert "\nexec " in seen["entrypoint"], "or SIGTERM ends at the shell"
  subprocess.run(["bash", str(tmp_path / "entrypoint.sh"), *words], check=True)
  assert ran_of(tmp_path) == [list(job.command[1:])]
  wants = made.requirements(xm, job.resources, "vertex")
  asked = vertex.get_machine_spec(
    xm.Job(packageable.executable_spec, xm_local.Vertex(requirements=wants))
  )
  assert asked["machine_type"] == "a2-highgpu-8g" and asked["accelerator_count"] == 8


def test_what_kubernetes_is_asked_for():
  from xmanager import xm, xm_local
  from xmanager.cloud import kubernetes

  made = launcher("xm")
  wants = made.requirements(xm, Resources("h100:8", 1, 8, 16), "kubernetes")
  limits = kubernetes.requirements_from_executor(xm_local.Kubernetes(wants)).limits
  assert limits == {"nvidia.com/gpu": "8", "cpu": "8", "memory": str(16 * 2**30)}


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (
      ["--executor=vertex", "--accelerator=v5p:4x4x4"],
      "cannot ask vertex.*launch/xpk.py",
    ),
    (["--executor=kubernetes", "--accelerator=v6e:4x4"], "cannot ask kubernetes"),
    (["--executor=vertex", "--accelerator=nosuch:1"], "does not know nosuch"),
    (["--slots=0"], "--slots=0: give 1 or more"),
  ],
)
def test_what_xmanager_cannot_do_is_said(words, message, tmp_path, capsys):
  import re

  assert run("xm", f"--config={TINY}", f"--root={tmp_path}/r", *words) == 2
  assert re.search(message, capsys.readouterr().err)


def test_dry_runs_show_everything_and_write_nothing(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  words = [
    f"--config={TINY}",
    f"--root={tmp_path}/r",
    "--dry-run",
    f"--config.data.tokenizer={HARD}",
  ]
  assert run("xm", *words) == 0
  assert run("xm", *words, "--executor=vertex", "--accelerator=a100:8") == 0
  out = capsys.readouterr().out
  assert "FROM python:3.12-slim\nENV LANG" in out and out.count("# base\n") == 2
  assert not (tmp_path / "r").exists()
