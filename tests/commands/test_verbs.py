"""The command line as a person uses it: every verb's RESULT, and what bad input says."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image as Picture

from unijax import asked, cli
from unijax.data.images import SUFFIXES

CONFIG = "--config=configs/transfusion.py:tiny"
SMALL = [
  "--config.model.width=32", "--config.model.depth=1", "--config.model.scan_unroll=1",
  "--config.model.heads=2", "--config.model.kv_heads=2", "--config.model.head_dim=16",
  "--config.model.mlp_width=32", "--config.train.batch_size=2",
  "--config.train.steps=3", "--config.data.window=32", "--config.sample.steps=2",
  "--config.sample.max_text_tokens=6", "--config.eval.prompts=4",
  "--config.eval.batch_size=4", "--config.eval.loss_batches=1",
  "--config.eval.kid_images=4",
]  # fmt: skip


def run(capsys, *argv) -> tuple[dict, str]:
  """Runs a verb; returns its RESULT and all that it printed."""
  cli.main(list(argv))
  out = capsys.readouterr().out
  last = out.rstrip("\n").rpartition("\n")[2]
  assert last.startswith("RESULT ")
  return json.loads(last.removeprefix("RESULT ")), out


def refuse(capsys, *argv) -> str:
  """Runs a verb that must fail for bad input; returns what it said."""
  with pytest.raises(SystemExit) as exit_:
    cli.main(list(argv))
  assert exit_.value.code == 2
  return capsys.readouterr().err


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("run")
  cli.main(["train", CONFIG, f"--workdir={path}", *SMALL])
  return path


def test_train_leaves_a_whole_run_directory(workdir):
  names = {p.name for p in workdir.iterdir()}
  assert {
    "config.json", "checkpoints", "metrics.jsonl", "parameters.txt", "samples",
    "tensorboard", "tokenizer.json",
  } <= names  # fmt: skip


def test_a_finished_run_trains_no_further(workdir, capsys):
  before = (workdir / "metrics.jsonl").read_text()
  result, _ = run(capsys, "train", CONFIG, f"--workdir={workdir}", *SMALL)
  assert result["step"] == 3
  assert (workdir / "metrics.jsonl").read_text() == before


def test_sample_draws_and_answers(workdir, capsys, tmp_path):
  out = tmp_path / "a.png"
  result, _ = run(
    capsys, "sample", f"--workdir={workdir}", "--prompt=a red circle",
    "--begin=image", "--count=2", f"--out={out}",
  )  # fmt: skip
  assert len(result["images"]) >= 2
  assert np.asarray(Picture.open(result["images"][0])).shape == (32, 32, 3)
  result, printed = run(
    capsys, "sample", f"--workdir={workdir}", f"--image={out}",
    "--prompt=what is this?", "--begin=text", f"--out={tmp_path}",
  )  # fmt: skip
  assert len(result["texts"]) == 1 and not result["images"]


def test_pictures_of_a_folder_are_numbered(tmp_path):
  """As those of a file are."""
  from unijax.commands.sample import save_pictures
  from unijax.infer.generate import Generated

  out = asked.asked_file(tmp_path / "drawn", "--out", "sample.png", SUFFIXES)
  pixels = np.zeros((8, 8, 3), np.uint8)
  for first in (0, 2):
    save_pictures(Generated([pixels, pixels], [], True), out, first)
  names = {x.name for x in (tmp_path / "drawn").iterdir()}
  assert names == {f"sample{n}.png" for n in ("", "-1", "-2", "-3")}


@pytest.mark.parametrize(
  "words",
  [
    "sample --workdir=none --prompt=x --out=a.txt",
    "eval --workdir=none --report=.",
    "ckpt export none --out=file/a",
    f"data inspect {CONFIG} --out=a.b",
    "data prepare --kind=emoji --out=file",
    f"data tokenizer {CONFIG} --out=file/x.json",
    f"plan {CONFIG} --topology=cpu:1 --json=file/plan",
    "compare configs/transfusion.py --out=file",
  ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
  words, capsys, tmp_path, monkeypatch
):
  """Before any run is opened: there is none here, and nothing is begun."""
  verb, *rest = words.replace(
    "configs/", f"{pathlib.Path('configs').absolute()}/"
  ).split()
  monkeypatch.chdir(tmp_path)
  (tmp_path / "file").write_text("")
  (tmp_path / "report.html").mkdir()
  said, wrong = refuse(capsys, verb, *rest), rest[-1]
  assert f"unijax: {wrong}: " in said
  assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "report.html"]


def test_conversation(workdir, capsys, monkeypatch, tmp_path):
  said = iter(["/draw a red circle", "hello", "/image nothing.png", "/new", "/quit"])
  monkeypatch.setattr("builtins.input", lambda prompt: next(said))
  result, out = run(
    capsys, "sample", f"--workdir={workdir}", "--interactive",
    f"--out={tmp_path / 'c.png'}",
  )  # fmt: skip
  assert result["turns"] == 2 and pathlib.Path(result["images"][0]).is_file()
  assert "nothing.png" in out  # the error is said and the conversation goes on


def test_eval_writes_a_report(workdir, capsys, tmp_path):
  page = tmp_path / "report.html"
  result, out = run(
    capsys, "eval", f"--workdir={workdir}", "--split=iid", f"--report={page}"
  )
  assert set(result["scenes"]) == {"iid/draw", "iid/describe", "iid/ask", "iid/edit"}
  oracle = {task: b["oracle"] for task, b in result["baselines"].items()}
  assert oracle == dict.fromkeys(oracle, 1.0)
  assert result["bits_per_byte"] > 1 and "emoji_kid_lite" in result
  html = page.read_text()
  for heading in ("Scores", "Asked and answered", "Edited", "Emoji", "Denoising"):
    assert heading in html


def test_goodput_adds_up(workdir, capsys, tmp_path):
  result, printed = run(capsys, "goodput", str(workdir))
  assert result["steps"] == 3 and result["starts"] == 1 and result["lost_steps"] == 0
  assert sum(result["seconds"].values()) == pytest.approx(
    result["wall_seconds"], rel=0.01
  )
  assert "evaluation" in printed and "3 steps kept" in printed
  assert "has no events.jsonl" in refuse(capsys, "goodput", str(tmp_path))


def test_going_back_needs_a_checkpoint_and_a_range(workdir, capsys):
  train = ("train", CONFIG, f"--workdir={workdir}", *SMALL)
  assert "write A:B" in refuse(capsys, *train, "--rewind=3", "--skip-steps=9:2")
  assert "has checkpoints [3]" in refuse(capsys, *train, "--rewind=2")


def test_inspect_draws_a_row(capsys, tmp_path):
  out = tmp_path / "row.png"
  result, printed = run(
    capsys, "data", "inspect", CONFIG, "--config.data.window=32", "--rows=1",
    f"--out={out}",
  )  # fmt: skip
  assert out.is_file() and result["documents"] > 1 and "USER" in printed.upper()


def test_unknown_knob_suggests_the_nearest(capsys):
  said = refuse(capsys, "train", CONFIG, "--workdir=x", "--config.model.widht=3")
  assert "widht" in said and "width" in said


def test_wrong_type_and_preset_and_file(capsys):
  assert "abc" in refuse(
    capsys, "train", CONFIG, "--workdir=x", "--config.model.width=abc"
  )
  assert "tiny-long" in refuse(
    capsys, "train", "--config=configs/transfusion.py:8B", "--workdir=x"
  )
  assert "configs/nope.py" in refuse(
    capsys, "train", "--config=configs/nope.py", "--workdir=x"
  )


def test_unknown_source_option_suggests_the_nearest(capsys, tmp_path):
  config = tmp_path / "c.py"
  config.write_text(
    "from configs import transfusion\n"
    "def get_config():\n"
    "  c = transfusion.get_config()\n"
    "  c.data.sources.scenes.options.max_objcts = 1\n"
    "  return c\n"
  )
  said = refuse(capsys, "train", f"--config={config}", f"--workdir={tmp_path / 'w'}")
  assert "max_objcts" in said and "max_objects" in said
  assert not (tmp_path / "w").exists()  # nothing was begun


def test_missing_run_and_checkpoint(workdir, capsys, tmp_path):
  assert "holds no run" in refuse(
    capsys, "sample", f"--workdir={tmp_path / 'none'}", "--prompt=x"
  )
  assert "step 7" in refuse(
    capsys, "sample", f"--workdir={workdir}", "--prompt=x", "--step=7"
  )


def test_checkpoint_of_another_config_shows_the_difference(workdir, capsys):
  said = refuse(
    capsys, "train", CONFIG, f"--workdir={workdir}", *SMALL, "--config.model.width=48"
  )
  assert "model.width: 32 -> 48" in said


def test_bad_picture_prompt_and_argument(workdir, capsys, tmp_path):
  broken = tmp_path / "broken.png"
  broken.write_bytes(b"\x89PNG\r\n\x1a\n truncated")
  sample = ("sample", f"--workdir={workdir}")
  assert "broken.png" in refuse(capsys, *sample, f"--image={broken}")
  assert "--prompt" in refuse(capsys, *sample)
  assert "positions" in refuse(capsys, *sample, "--prompt=" + "long words " * 99)
  with pytest.raises(SystemExit):
    cli.main(["sample", "--wrokdir=x"])
