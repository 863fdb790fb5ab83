"""`unijax sweep` as a person uses it: plans, states, tables, and what bad input says."""

import contextlib
import json
import pathlib

import pytest

from tests.commands.test_verbs import refuse, run
from tests.conftest import ROOT
from tests.sweep import made
from tests.sweep.test_drive import STUDY
from unijax import cli
from unijax.sweep import trials


@pytest.fixture
def study(tmp_path) -> str:
  (tmp_path / "study.py").write_text(STUDY)
  return str(tmp_path / "study.py")


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  """A sweep of three trials: one done, one failed, one waiting."""
  place = tmp_path / "root"
  for i in range(3):
    trials.write(place, made.trial(i))
  made.done(place, made.trial(0), {"iid draw": 0.5})
  made.failed(place, made.trial(1), "exit code 1: it would not")
  return place


def test_a_dry_run_shows_what_would_run_and_writes_nothing(study, capsys, tmp_path):
  words = ["sweep", "run", study, f"--root={tmp_path / 'root'}", "--dry-run"]
  result, out = run(capsys, *words, "--seeds=3", "--config.train.steps=7")
  assert (result["trials"], result["points"]) == (12, 4)
  lines = [x for x in out.splitlines() if "max_objects=2, grid=3" in x]
  assert [x.split()[3:5] for x in lines] == [["0", "7"], ["1", "7"], ["2", "7"]]
  assert all(x.endswith("max_objects=1, grid=3") for x in lines)
  assert not (tmp_path / "root").exists()


def test_flops_are_spent_alike(study, capsys, tmp_path):
  """Traced: a batch of twice the pairs has half the steps, for as many FLOPs."""
  text = pathlib.Path(study).read_text()
  at = text.index("  # Knobs of the data")
  pathlib.Path(study).write_text(
    text[:at].replace('{SCENES + "max_objects": 1}', '{"train.batch_size": 4}')
    + '  return param("train.batch_size", [4, 8])\n'
  )
  words = ["sweep", "run", study, f"--root={tmp_path / 'root'}", "--dry-run"]
  _, out = run(capsys, *words, "--flops=1e9")
  (steps, flops), (fewer, same) = (
    (int(x.split()[3].replace(",", "")), float(x.split()[4]))
    for x in out.splitlines()
    if "batch_size=" in x
  )
  assert abs(steps - 2 * fewer) <= 2 + steps // 10, "pairs of a batch meet each other"
  assert 0.9e9 < same <= 1e9 and 0.9e9 < flops <= 1e9


def test_status_table_plot_and_export(root, capsys):
  result, out = run(capsys, "sweep", "status", str(root))
  assert (result["done"], result["failed"], result["waiting"]) == (1, 1, 1)
  assert "3 trials: 1 done, 1 waiting, 1 failed" in out and "it would not" in out
  assert "width=2" not in out
  assert "width=2" in run(capsys, "sweep", "status", str(root), "--all")[1]
  result, out = run(capsys, "sweep", "table", str(root))
  assert result["points"][0]["scores"]["iid draw"]["mean"] == 0.5
  assert "width=1, seed 0 (001-0): exit code 1: it would not" in out
  result, _ = run(capsys, "sweep", "plot", str(root))
  assert result["report"] == str(root / "index.html")
  assert "it would not" in (root / "index.html").read_text()
  result, _ = run(capsys, "sweep", "export", str(root), f"--out={root / 'a.json'}")
  assert len(json.loads((root / "a.json").read_text())["trials"]) == 3


def test_bad_input_is_refused_in_one_message(study, root, capsys, tmp_path):
  run_ = ["sweep", "run", study, f"--root={tmp_path / 'new'}"]
  for words, message in (
    (["sweep", "status", str(tmp_path / "nosuch")], "no trials in this folder"),
    (["sweep", "resume", str(tmp_path)], "no trials in this folder"),
    (["sweep", "table", str(root), "--score=iid drow"], "known are iid draw"),
    (["sweep", "plot", str(root), "--out=a.png"], "no way to write '.png'"),
    (["sweep", "export", str(root), "--out=a.txt"], "no way to write '.txt'"),
    (
      ["sweep", "status", str(root), "--config.seed=1"],
      "only `unijax sweep run` takes",
    ),
    ([*run_, "--config=configs/clip.py"], "named without --config="),
    ([*run_, "--config.seed", "1"], "in one word"),
    ([*run_, "--slots=0"], "--slots=0: give 1 or more"),
    ([*run_, "--flops=0"], "--flops=0: give more than 0"),
    ([*run_, "--config.align.widht=1"], "unknown knob"),
    (["sweep", "trial", str(root)], "there is none"),
    (["sweep", "trial", str(root / "001-0")], "is of another version of unijax"),
  ):
    assert message in refuse(capsys, *words), words
  assert not (tmp_path / "new").exists()


def test_help_has_examples(capsys):
  for action in ("", "run", "resume", "status", "table", "plot", "export"):
    with contextlib.suppress(SystemExit):
      cli.main(["sweep", *([action] if action else []), "--help"])
    out = capsys.readouterr().out
    assert "unijax sweep" in out.partition("example")[2], action
  files = [x for x in out.split() if x.startswith("configs/")]
  assert all((ROOT / x.partition(":")[0]).is_file() for x in files)
