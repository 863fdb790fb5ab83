"""The board: what is said of runs while they run."""

import contextlib
import io
import json
import os
import pathlib
import pty
import termios
import time

from unijax.sweep import pool
from unijax.sweep.board import Board, reading


def metrics(folder: pathlib.Path, *steps: int) -> None:
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text('{"config": {"train": {"steps": 200}}}')
  made = [
    {"step": s, "train/loss": 9.0 / (s + 1), "train/steps_per_second": 2.0}
    for s in steps
  ]
  text = "".join(json.dumps(x) + "\n" for x in made)
  (folder / "metrics.jsonl").write_text(
    '{"step": 1, "held_out/x": 3}\n' + text + '{"st'
  )


def test_the_board_shows_every_run_in_plain_lines_or_in_place(tmp_path):
  metrics(tmp_path / "a", *range(0, 100))
  (tmp_path / "b").mkdir()
  now = time.monotonic()
  runs = [
    pool.Trial(None, "a", str(tmp_path / "a"), attempts=2, began=now),
    pool.Trial(None, "b", str(tmp_path / "b"), attempts=1, began=now - 70),
  ]
  wanted = ["a  attempt 2  step 100/200  loss 0.0900  2 steps/s  ETA 50s",
            "b  starting, 1m10s"]  # fmt: skip
  plain = io.StringIO()
  Board(plain, every=60).show(runs, "2 runs")
  assert plain.getvalue() == "", "not before a minute is over"
  Board(plain, every=0).show(runs, "2 runs")
  assert plain.getvalue().splitlines() == ["2 runs", *(f"  {x}" for x in wanted)]
  main, terminal = pty.openpty()
  with os.fdopen(terminal, "w") as stream:
    board = Board(stream)
    board.show(runs, "2 runs")
    board.say("[1/2] a: done")
    termios.tcsetwinsize(terminal, (5, 20))
    board.show([*runs, runs[1]], "3 runs")
    board.close()
  shown = b""
  with contextlib.suppress(OSError):  # the end of a terminal is an error
    while piece := os.read(main, 10000):
      shown += piece
  assert shown.decode().splitlines() == [
    *wanted, "2 runs", "\x1b[3F\x1b[J[1/2] a: done",
    "a  attempt 2  step ", "... and 2 more", "3 runs", "\x1b[3F\x1b[J",
  ]  # fmt: skip
  assert reading(tmp_path / "b") == {} and reading(tmp_path / "a")["held_out/x"] == 3
