"""Launchers: their scripts run under stand-ins of sbatch, xpk and gcloud that record.

The stand-ins behave as the real tools do in what counts here: sbatch runs the script
for every number of the array, gcloud gives the command to a shell, and so on.
"""

import importlib.util
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from unijax.sweep import alone, launching
from unijax.sweep.jobs import JobSpec

TINY = f"{ROOT}/configs/transfusion.py:tiny"
HARD = 'it\'s a "file" $HOME `id` \\ *;&.model'
STUDY = """
from configs import transfusion
from unijax.sweep.points import param
def get_config(preset="tiny"):
  return transfusion.get_config("tiny")
def sweep(preset="tiny"):
  return param("optim.learning_rate", [0.01, 0.001])
"""
# Writes its arguments, and ends with the next code of the file `codes`.
PYTHON = """#!/usr/bin/env bash
{{ printf '%s\\0' "$@"; printf '\\n\\0'; }} >> {folder}/ran
code=$(head -n 1 {folder}/codes 2>/dev/null || echo 0)
sed -i 1d {folder}/codes 2>/dev/null
exit "${{code:-0}}"
"""
SBATCH = """#!/usr/bin/env bash
{{ printf '%s\\0' "$@"; printf '\\n\\0'; }} >> {folder}/sbatch.ran
range=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
for number in $(seq 0 "$range"); do
  SLURM_JOB_ID=$((40 + number)) SLURM_ARRAY_JOB_ID=40 SLURM_ARRAY_TASK_ID=$number bash "$1"
done
"""
GCLOUD = """#!/usr/bin/env bash
for word in "$@"; do case "$word" in --command=*) exec sh -c "${{word#--command=}}";; esac; done
"""
RECORDS = """#!/usr/bin/env bash
{{ printf '%s\\0' "$@"; printf '\\n\\0'; }} >> {folder}/{name}.ran
"""


def launcher(name: str):
  """The module launch/NAME.py."""
  spec = importlib.util.spec_from_file_location(
    f"launch_{name}", ROOT / f"launch/{name}.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def tool(folder: pathlib.Path, name: str, text: str = RECORDS) -> str:
  path = folder / name
  path.write_text(text.format(folder=folder, name=name))
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
  return str(path)


def ran(folder: pathlib.Path, name: str = "") -> list[list[str]]:
  """The arguments of every call of a stand-in."""
  path = folder / (f"{name}.ran" if name else "ran")
  calls = path.read_text().split("\n\0")[:-1] if path.exists() else []
  return [call.split("\0")[:-1] for call in calls]


@pytest.fixture
def tools(tmp_path, monkeypatch) -> pathlib.Path:
  """A folder of stand-ins, first on PATH, and an empty one to be in."""
  folder, here = tmp_path / "tools", tmp_path / "here"
  folder.mkdir(), here.mkdir()
  monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
  monkeypatch.chdir(here)
  for name in ("scontrol", "scancel", "xpk"):
    tool(folder, name)
  tool(folder, "sbatch", SBATCH)
  tool(folder, "srun", '#!/usr/bin/env bash\nshift\nexec "$@"\n')
  tool(folder, "gcloud", GCLOUD)
  for name in ("python", "python3"):
    tool(folder, name, PYTHON)
  monkeypatch.setattr(sys, "executable", str(folder / "python"))
  return folder


def run(name: str, *words: str) -> int:
  with pytest.raises(SystemExit) as left:
    launcher(name).main([*words])
  return left.value.code or 0


def is_bash(text: str) -> bool:
  return subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def wanted(root, *more: str) -> list[str]:
  hard = f"--config.data.tokenizer={HARD}"
  words = ["-m", "unijax", "train", f"--config={TINY}", f"--workdir={root}/base"]
  return [*words, *more, hard]


def test_slurm_on_several_hosts(tools, tmp_path, capfd):
  root = tmp_path / "my runs"
  words = [f"--config={TINY}", f"--root={root}", "--hosts=2", "--accelerator=h100:8",
           "--cpus=16", "--memory=64", "--time=01:00:00", "--sbatch=--partition=big one",
           "--env=A=b 'c'", f"--config.data.tokenizer={HARD}"]  # fmt: skip
  assert run("slurm", *words) == 0
  text = capfd.readouterr().out
  assert is_bash(text) and not root.exists(), "a dry run writes nothing"
  options = {
    x.removeprefix("#SBATCH ") for x in text.splitlines() if x[:7] == "#SBATCH"
  }
  assert options >= {
    "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:h100:8", "--cpus-per-task=16",
    "--mem=64G", "--signal=B:TERM@120", "--requeue", "--time=01:00:00", "--array=0-0",
    "'--partition=big one'",
  }  # fmt: skip
  (tools / "codes").write_text("76\n75\n1\n")
  assert run("slurm", *words, "--submit") == 76
  assert ran(tools, "sbatch") == [[f"{root}/slurm.sh"]]
  assert (root / "slurm.sh").read_text() == text
  assert ran(tools) == [wanted(root, "--processes=auto")]
  assert ran(tools, "scontrol") == [["requeue", "40_0"]]
  again = {**os.environ, "SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "40",
           "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": "3"}  # fmt: skip
  script = ["bash", str(root / "slurm.sh")]
  assert subprocess.run(script, env=again).returncode == 75
  assert len(ran(tools, "scontrol")) == 1, "it was restarted three times"
  again["SLURM_RESTART_COUNT"] = "0"
  assert subprocess.run(script, env=again).returncode == 1
  assert len(ran(tools, "scontrol")) == 1, "nothing else is queued again"
  assert (
    subprocess.run(script, env={**again, "SLURM_ARRAY_TASK_ID": "9"}).returncode == 2
  )


def test_slurm_passes_sigterm_on_and_waits(tools, tmp_path):
  stands = (
    "trap 'sleep 0.3; exit 75' TERM; touch {folder}/began; while :; do sleep 0.05; done"
  )
  tool(tools, "python", f"#!/usr/bin/env bash\n{stands}\n")
  root = tmp_path / "runs"
  jobs = [JobSpec("a", (str(tools / "python"),), str(root / "a"))]
  made = launcher("slurm")
  args = launching.parser("").parse_args([f"--config={TINY}", f"--root={root}"])
  args.hosts, args.at_once, args.time, args.name, args.sbatch = 1, 0, "1", "n", []
  file = tmp_path / "script.sh"
  file.write_text(made.script(jobs, args))
  environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
  process = subprocess.Popen(["bash", str(file)], env=environment)
  deadline = time.monotonic() + 60
  while not (tools / "began").exists():
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 75
  assert ran(tools, "scontrol") == [["requeue", "7_0"]]


def test_slurm_runs_the_trials_of_a_sweep(tools, tmp_path, capfd):
  (tmp_path / "study.py").write_text(STUDY)
  root = tmp_path / "runs"
  words = [f"--config={tmp_path}/study.py", f"--root={root}", "--at-once=1", "--submit"]
  assert run("slurm", *words) == 0
  folders = sorted(p.parent for p in root.glob("*/trial.json"))
  assert len(folders) == 2
  called = ran(tools)
  assert sorted(called) == [["-m", "unijax.sweep.alone", str(f)] for f in folders]
  for folder in folders:
    job = alone.read(folder)
    assert job.retries == 0, "Slurm restarts, not the pool"
    assert job.command[1:5] == ("-m", "unijax", "sweep", "trial")
  assert "#SBATCH --array=0-1%1\n" in (root / "slurm.sh").read_text()


def test_xpk(tools, tmp_path, capfd):
  (tmp_path / "study.py").write_text(STUDY)
  words = ["--root=/mnt/my runs", "--accelerator=v5p:4x4x4", "--cluster=c", "--image=i:1",
           "--slices=2", "--xpk=--zone=z", "--env=A=b 'c'"]  # fmt: skip
  one = [f"--config={TINY}", f"--config.data.tokenizer={HARD}"]
  assert run("xpk", *words, *one) == 0
  text = capfd.readouterr().out
  assert is_bash(text) and not ran(tools, "xpk")
  assert run("xpk", *words, *one, "--submit") == 0
  (call,) = ran(tools, "xpk")
  assert call[:-1] == [
    "workload", "create", "--workload=unijax-base", "--cluster=c", "--tpu-type=v5p-128",
    "--num-slices=2", "--docker-image=i:1", "--max-restarts=3",
    "--restart-on-exit-codes=75,76", "--termination-grace-period-seconds=120",
    "--env=A=b 'c'", "--zone=z",
  ]  # fmt: skip
  subprocess.run(["sh", "-c", call[-1].removeprefix("--command=")], check=True)
  assert ran(tools) == [wanted("/mnt/my runs", "--processes=auto")]
  assert (
    run("xpk", *words, f"--config={tmp_path}/study.py", "--name=a", "--submit") == 0
  )
  names = [call[2].removeprefix("--workload=") for call in ran(tools, "xpk")[1:]]
  assert len(set(names)) == 2 and all(n[:2] == "a-" and len(n) <= 40 for n in names)


def test_tpu_vm(tools, tmp_path, capfd, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  (tmp_path / "home" / "my code").mkdir(parents=True)
  words = [f"--config={TINY}", "--root=/mnt/my runs", "--accelerator=v6e:4x4", "--tpu=t",
           "--folder=~/my code", "--gcloud=--zone=z", f"--config.data.tokenizer={HARD}"]  # fmt: skip
  assert run("tpu_vm", *words) == 0
  text = capfd.readouterr().out
  assert is_bash(text) and "--accelerator-type=v6e-16" in text and not ran(tools)
  (tools / "codes").write_text("75\n76\n0\n")
  assert run("tpu_vm", *words, "--submit") == 0
  assert ran(tools) == [wanted("/mnt/my runs", "--processes=auto")] * 3
  (tools / "codes").write_text("2\n0\n")
  assert run("tpu_vm", *words, "--seeds=2", "--submit") == 1
  assert len(ran(tools)) == 5, "a point that fails stops no other"
  (tools / "codes").write_text("75\n" * 9)
  assert run("tpu_vm", *words, "--retries=1", "--submit") == 1
  assert len(ran(tools)) == 7


@pytest.mark.parametrize(
  ("name", "words", "message"),
  [
    ("slurm", ["--config=nosuch.py"], "config 'nosuch.py': .*No such file"),
    ("slurm", ["--accelerator=v5p:4x4x4"], "Slurm has GPUs.*launch/xpk.py"),
    ("slurm", ["--config.optim.learing_rate=1"], "unknown knob 'optim.learing_rate'"),
    ("slurm", ["--env=A"], "--env 'A' is not NAME=VALUE"),
    ("slurm", ["--hosts=0"], "--hosts=0: give 1 or more"),
    ("slurm", ["--nosuch"], "unexpected argument '--nosuch'"),
    ("slurm", ["--submit"], "sbatch is not on PATH: it comes with Slurm"),
    ("xpk", ["--accelerator=v5p:4x4x4", "--submit"], "xpk is not on PATH: .*pip install xpk"),
    ("xpk", ["--accelerator=h100:8"], "--accelerator=h100:8: unknown chip"),
    ("xpk", ["--accelerator=cpu:8"], "this launcher is for TPUs"),
    ("xpk", [], "--accelerator: name a slice, such as"),
    ("xpk", ["--accelerator=v5p:4x4x4", "--name=1"], "begin with a small letter"),
    ("tpu_vm", ["--accelerator=v5e:4x4", "--submit"], "gcloud is not on PATH: .*cloud.google"),
    ("xm", ["--executor=borg"], "borg: unknown; known are local, vertex, kubernetes"),
  ],
)  # fmt: skip
def test_mistakes_are_named(name, words, message, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PATH", "/nowhere")
  more = {"xpk": ["--cluster=c", "--image=i"], "tpu_vm": ["--tpu=t"]}.get(name, [])
  assert run(name, f"--config={TINY}", f"--root={tmp_path}/r", *more, *words) == 2
  assert re.search(message, capsys.readouterr().err)
  assert not (tmp_path / "r").exists()


def test_sweeps_that_cannot_be_launched_say_why(tmp_path, capsys):
  empty = STUDY.replace('param("optim.learning_rate", [0.01, 0.001])', "[]")
  other = STUDY.replace("learning_rate", "learing_rate")
  for text, message in (
    (empty, "gives no points"),
    (other, "'optim.learing_rate' is no knob"),
  ):
    (tmp_path / "study.py").write_text(text)
    for name, more in (("slurm", []), ("xpk", ["--cluster=c", "--image=i",
                                               "--accelerator=v5p:4x4x4"])):  # fmt: skip
      words = [f"--config={tmp_path}/study.py", f"--root={tmp_path}/r", *more]
      assert run(name, *words) == 2
      assert message in capsys.readouterr().err
