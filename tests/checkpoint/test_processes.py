"""Law: several processes save one checkpoint and agree on which one is whole."""

import json
import socket
import subprocess
import sys

from tests.checkpoint.states import ABSTRACT, equal, state
from tests.conftest import ROOT, environment
from unijax.checkpoint.reader import Reader


def test_two_processes(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  words = [sys.executable, "-m", "tests.checkpoint.processes", tmp_path, port, 2]
  started = [
    subprocess.Popen(
      [*map(str, words), str(number)], cwd=ROOT, env=environment(2), text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    for number in range(2)
  ]  # fmt: skip
  try:
    results = []
    for process in started:
      out, err = process.communicate(timeout=240)
      assert process.returncode == 0, err
      results.append(json.loads(out.splitlines()[-1]))
  finally:
    for process in started:
      process.kill()
  for result in results:
    assert result["steps"] == [5, 3] and result["equal"] == [True, True]
    assert result["left"] == [3]
  first, second = (result["said"] for result in results)
  assert len(first) == 1 and "file state/_METADATA is missing" in first[0]
  assert second == []  # one sentence in all
  (tmp_path / "config.json").write_text("{}")
  reader = Reader(tmp_path)  # and one process reads what two have written
  assert equal(reader.restore(ABSTRACT), state(3))
  reader.close()
