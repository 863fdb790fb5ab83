"""The pool: restarts, crashes, signals, and two drivers of one folder.

The trials are small programs that save and end as training does; real processes die.
"""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from unijax.sweep import hold
from unijax.sweep.board import Board
from unijax.sweep.jobs import JobSpec
from unijax.sweep.pool import Pool, exit_code

# Ends with the codes given, one a start, and writes when it was there.
TRIAL = """
import json, pathlib, sys, time
folder, codes, seconds = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
starts = folder / "starts"
count = len(starts.read_text().split()) if starts.exists() else 0
with starts.open("a") as file:
  file.write(f"{time.time()}\\n")
time.sleep(seconds)
with (folder / "ends").open("a") as file:
  file.write(f"{time.time()}\\n")
code = codes[min(count, len(codes) - 1)]
if code == 0:
  print('RESULT {"loss": 1.5}')
elif code == 2:
  print("unijax: 1 problem in the config:\\n  a: b")
else:
  print("Traceback\\nValueError: no")
sys.exit(code)
"""
# Trains until it is told to stop; then saves, which takes until a file is there.
STOPPABLE = """
import os, pathlib, signal, sys, time
folder, told = pathlib.Path(sys.argv[1]), []
def tell(number, frame):
  told.append(number)
  with (folder / "told").open("a") as file:
    file.write(f"{number:d}\\n")
for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, tell)
with (folder / "starts").open("a") as file:
  file.write(f"{time.time()} {os.getpid()}\\n")
if (folder / "again").exists():
  (folder / "again.ran").touch()
  sys.exit(0)
while not told:
  time.sleep(0.01)
while not (folder / "may_end").exists():
  time.sleep(0.01)
with (folder / "ends").open("a") as file:
  file.write(f"{time.time()}\\n")
sys.exit(75 if told[0] == signal.SIGTERM else 130)
"""
# Writes its processors once there is another that runs.
MEETS = """
import json, os, pathlib, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / f"{name}.here").touch()
while len(list(folder.glob("*.here"))) < 2:
  time.sleep(0.01)
(folder / f"{name}.json").write_text(json.dumps(sorted(os.sched_getaffinity(0))))
"""
DRIVER = """
import json, sys
from unijax.sweep import pool
from unijax.sweep.jobs import JobSpec
jobs = [JobSpec(name, (sys.executable, "-c", sys.argv[1], folder), folder)
        for name, folder in json.loads(sys.argv[2])]
outcomes = pool.Pool(int(sys.argv[3])).run(jobs)
print(json.dumps([o.state for o in outcomes]))
sys.exit(pool.exit_code(outcomes))
"""


def trial(folder, name, codes, seconds=0.0, **spec) -> JobSpec:
  words = str(folder / name), json.dumps(codes), str(seconds)
  return JobSpec(
    name, (sys.executable, "-c", TRIAL, *words), str(folder / name), **spec
  )


def quiet(slots=1) -> Pool:
  return Pool(slots, Board(io.StringIO()))


def wait_until(happened, seconds=60.0):
  deadline = time.monotonic() + seconds
  while not happened():
    assert time.monotonic() < deadline, "did not happen in time"
    time.sleep(0.01)


def lines(path: pathlib.Path) -> list[str]:
  return path.read_text().split("\n")[:-1] if path.exists() else []


def test_restarts_and_crashes(tmp_path):
  jobs = [
    trial(tmp_path, "fine", [0]),
    trial(tmp_path, "crash", [1]),
    trial(tmp_path, "restarted", [75, 76, 0]),
    trial(tmp_path, "person", [2]),
    trial(tmp_path, "too_often", [76], retries=2),
    trial(tmp_path, "own_code", [9, 0], requeue=(9,)),
    JobSpec("none", ("no-such-program",), str(tmp_path / "none")),
    JobSpec("nowhere", ("true",), f"{ROOT}/pyproject.toml/nowhere"),
  ]
  p = quiet(slots=2)
  outcomes = p.run(jobs)
  assert [(o.name, o.state, o.code, o.attempts) for o in outcomes] == [
    ("fine", "done", 0, 1), ("crash", "failed", 1, 1), ("restarted", "done", 0, 3),
    ("person", "failed", 2, 1), ("too_often", "failed", 76, 3), ("own_code", "done", 0, 2),
    ("none", "failed", 127, 1), ("nowhere", "failed", None, 0),
  ]  # fmt: skip
  assert exit_code(outcomes) == 1 and exit_code(outcomes[:1]) == 0
  assert outcomes[2].result == {"loss": 1.5}
  assert outcomes[1].error == "exit code 1: ValueError: no"
  assert outcomes[3].error == "exit code 2: 1 problem in the config: a: b"
  assert outcomes[6].error.startswith(
    "exit code 127: cannot run no-such-program: No such"
  )
  record = json.loads((tmp_path / "restarted" / "job.json").read_text())
  assert record["state"] == "done" and record["command"] == list(jobs[2].command)
  said = p.board.stream.getvalue()
  assert "restarted: exit code 75, starts again (1 of 3 restarts)" in said
  assert "[8/8]" in said and "nowhere: failed: [Errno 20] Not a directory" in said


def test_what_is_done_is_not_done_again(tmp_path):
  job = trial(tmp_path, "a", [0], config="x")
  assert quiet().run([job])[0].attempts == 1
  again = quiet().run([job])[0]
  assert again.state == "done" and again.attempts == 0 and again.result == {"loss": 1.5}
  assert len(lines(tmp_path / "a" / "starts")) == 1
  for other in (trial(tmp_path, "a", [0], 0.01, config="x"), trial(tmp_path, "a", [0])):
    assert quiet().run([other])[0].attempts == 1, "another command or config is another"
  failed = trial(tmp_path, "b", [1])
  assert [quiet().run([failed])[0].attempts for _ in range(2)] == [1, 1]


def test_no_more_than_the_slots_at_a_time(tmp_path):
  jobs = [trial(tmp_path, str(n), [0], 0.3) for n in range(5)]
  quiet(slots=2).run(jobs)
  events = []
  for n in range(5):
    events += [(float(x), 1) for x in lines(tmp_path / str(n) / "starts")]
    events += [(float(x), -1) for x in lines(tmp_path / str(n) / "ends")]
  at_once = [sum(step for _, step in sorted(events)[: n + 1]) for n in range(10)]
  assert max(at_once) <= 2
  with pytest.raises(ValueError, match="0 slots"):
    Pool(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no such system call")
def test_slots_run_at_once_and_share_no_processor(tmp_path):
  jobs = [
    JobSpec(
      name, (sys.executable, "-c", MEETS, str(tmp_path), name), str(tmp_path / name)
    )
    for name in ("a", "b")
  ]
  assert [o.state for o in quiet(slots=5).run(jobs)] == ["done", "done"]
  a, b = (set(json.loads((tmp_path / f"{name}.json").read_text())) for name in "ab")
  everything = os.sched_getaffinity(0)
  assert a | b == everything
  assert not a & b or len(everything) == 1


def drive(folders, slots=2) -> subprocess.Popen:
  named = json.dumps([(f.name, str(f)) for f in folders])
  return subprocess.Popen(
    [sys.executable, "-c", DRIVER, STOPPABLE, named, str(slots)], cwd=ROOT, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
  )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_stopped_waits_for_what_its_runs_save(tmp_path, number):
  folders = [tmp_path / name for name in ("a", "b", "c")]
  driver = drive(folders)
  wait_until(lambda: all(lines(f / "starts") for f in folders[:2]))
  os.killpg(driver.pid, number)  # as a terminal does
  wait_until(lambda: all(lines(f / "told") for f in folders[:2]))
  with pytest.raises(subprocess.TimeoutExpired):
    driver.wait(0.5)
  for folder in folders[:2]:
    (folder / "may_end").touch()
  out, err = driver.communicate(timeout=60)
  assert driver.returncode == 75, err
  assert json.loads(out) == ["stopped"] * 3
  assert [lines(f / "told") for f in folders[:2]] == [[str(int(number))]] * 2
  assert not folders[2].exists(), "nothing starts once it is asked to stop"
  record = json.loads((folders[0] / "job.json").read_text())
  assert record["state"] == "stopped" and record["code"] in (75, 130)


def alive(pid: str) -> bool:
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
  except FileNotFoundError:
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_driver_leaves_nobody_and_the_next_one_does_not_overlap(tmp_path):
  folder = tmp_path / "a"
  driver = drive([folder])
  wait_until(lambda: lines(folder / "starts"))
  driver.kill()
  driver.communicate()
  wait_until(lambda: lines(folder / "told"))  # though nobody is there to tell it
  pid = lines(folder / "starts")[0].split()[1]
  assert alive(pid) and hold.held(folder / "job.lock"), "it is still saving"
  assert hold.last(folder / "job.lock")["pid"] == int(pid)
  (folder / "again").touch()
  second = drive([folder])
  said = second.stderr.readline()
  assert f"process {pid} on" in said and "waits until it ends" in said
  with pytest.raises(subprocess.TimeoutExpired):
    second.wait(1)
  assert len(lines(folder / "starts")) == 1, "two processes train in one folder"
  (folder / "may_end").touch()
  out, err = second.communicate(timeout=60)
  assert second.returncode == 0 and json.loads(out) == ["done"], err
  assert (folder / "again.ran").exists() and not alive(pid)
  (ended,) = lines(folder / "ends")
  assert float(lines(folder / "starts")[1].split()[0]) > float(ended)


def test_a_lock_has_one_holder_and_dies_with_it(tmp_path):
  lock = str(tmp_path / "lock")
  assert not hold.held(lock) and hold.last(lock) == {}
  words = [sys.executable, "-S", "-E", hold.__file__, lock, str(os.getpid())]
  first = subprocess.Popen([*words, "sleep", "60"])
  wait_until(lambda: hold.held(lock))
  assert subprocess.run([*words, "true"]).returncode == hold.BUSY
  first.kill()
  first.wait()
  assert not hold.held(lock)
  assert subprocess.run([*words, "true"]).returncode == 0
  if sys.platform == "linux":  # a driver that died while its trial was started
    assert subprocess.run([*words[:-1], "1", "true"]).returncode == 143


def test_the_pool_loads_no_jax():
  code = "import sys, unijax.sweep.pool; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
