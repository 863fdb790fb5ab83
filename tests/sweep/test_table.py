"""Tables, pages and exports say what the trials found, and lose no trial."""

import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Picture

from tests.sweep import made
from unijax.sweep import export, page, table, trials

SCORES = {0: [0.4, 0.5, 0.6], 1: [0.45, 0.58, 0.71], 2: [0.9, 0.8, None]}


@pytest.fixture
def root(tmp_path):
  """Three points of three seeds; one trial failed, and point 2 costs twice as much."""
  for number, values in SCORES.items():
    for seed, value in enumerate(values):
      one = made.trial(number, seed)
      trials.write(tmp_path, one)
      if value is None:
        made.failed(tmp_path, one, "exit code 2: <diverged>")
        continue
      pixels = np.full((4, 8, 3), 20 * number + seed, np.uint8)
      Picture.fromarray(pixels).save(tmp_path / one.name / "drawn.png")
      made.done(
        tmp_path, one, {"iid draw": value, "bits per byte": 2.0 + value},
        flops=1e9 * (1 + (number == 2)), words=["one", "two"], drawn="drawn.png", exact=[True, False],
        about={"held_out": {"image_mse": value}},
      )  # fmt: skip
      lines = [{"step": i, "train/image_mse": value / (i + 1)} for i in range(4)]
      lines += [{"step": 4, "quick/draw_exact": value}]
      text = "".join(json.dumps(x) + "\n" for x in lines)
      (tmp_path / one.name / "metrics.jsonl").write_text(text)
  return tmp_path


def test_rows_are_means_over_seeds_and_paired_differences(root):
  one, two, three = table.rows(trials.index(root))
  assert (one.done, one.trials, three.done, three.trials) == (3, 3, 2, 3)
  assert one.scores["iid draw"].mean == pytest.approx(0.5)
  assert one.scores["iid draw"].half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
  change = two.against["iid draw"]  # .05, .08, .11, though the scores scatter by .13
  assert (change.mean, change.n) == (pytest.approx(0.08), 3)
  assert change.half == pytest.approx(4.302653 * 0.03 / 3**0.5, rel=1e-5)
  assert three.against["iid draw"].n == 2
  assert not one.against and one.baseline == one.label == "width=0"


def test_the_front_counts_less_as_better_where_it_is(root):
  fronts = [row.front for row in table.rows(trials.index(root))]
  assert fronts == [{"bits per byte", "held-out image_mse"}, {"iid draw"}, {"iid draw"}]


def test_the_table_for_people(root):
  text = table.plain(trials.index(root))
  draw, bits, failed, note = text.split("\n\n")
  rows = {re.split(r"\s{2,}", x)[0]: re.split(r"\s{2,}", x) for x in draw.splitlines()}
  assert rows["width=0"][1:] == ["3", "10", "1e+09", "50.0", "25.2 to 74.8", "baseline"]
  assert rows["width=1"][4:] == ["58.0", "25.7 to 90.3", "+8.0", "+0.5 to +15.5", "★"]
  assert rows["width=2"][1] == "2 of 3" and rows["width=2"][-2] == "-87.1 to +167.1"
  assert bits.startswith("bits per byte, less is better") and "2.58" in bits
  assert failed.splitlines()[1:] == [
    "  width=2, seed 2 (002-2): exit code 2: <diverged>"
  ]
  assert "Student" in note and "held-out" not in text


def test_a_difference_of_fewer_seeds_than_the_score_says_so(root):
  (root / "000-2" / trials.SCORES).unlink()
  row = table.rows(trials.index(root))[1]
  assert table.cells(row, "iid draw")[-2].endswith(" (n 2)") and row.done == 3


def test_scores_that_are_asked_for(root):
  found = trials.index(root)
  assert table.names(found) == ["iid draw", "bits per byte"]
  assert table.names(found, ["held-out image_mse"]) == ["held-out image_mse"]
  assert table.names(found, ["nosuch"]) == table.names(found)


def test_a_sweep_without_scores_has_a_table(tmp_path):
  trials.write(tmp_path, made.trial(0))
  found = trials.index(tmp_path)
  assert table.plain(found).startswith("no trial has scores yet")
  page.write(tmp_path / "index.html", found, {})
  assert "waiting" in (tmp_path / "index.html").read_text()
  export.write(tmp_path / "a.csv", found, {})
  assert len((tmp_path / "a.csv").read_text().splitlines()) == 2


def test_the_page_has_everything_in_it(root):
  about = {
    "file": "mask.py",
    "about": "A question?\n\nAn answer.",
    "curves": "model.width",
  }
  page.write(root / "index.html", trials.index(root), about)
  text = (root / "index.html").read_text()
  for words in ("A question?", "An answer.", "train/image_mse", "quick/draw_exact",
                "Score against compute", "width=2, seed 2", "&lt;diverged&gt;", "two",
                "+0.5 to +15.5", "002-2"):  # fmt: skip
    assert words in text, words
  assert len(re.findall(r"<img", text)) == 2 * 3, (
    "two captions, the first seed of three"
  )
  assert "http" not in text.replace("http-equiv", "") and "<script" not in text
  # Means over seeds: the first point ends at (.4 + .5 + .6) / 3 / 4.
  assert "width=0 ends at 0.125" in text


def test_a_score_against_compute_is_the_best_so_far(root):
  rows = table.rows(trials.index(root))
  chart = page._against_compute(rows, "iid draw", "")
  assert "best ends at 0.850" in chart and "0.580" not in chart.split("aria")[0]
  assert page._against_compute(rows[:2], "iid draw", "") is None, "all cost the same"
  bits = page._against_compute(rows, "bits per byte", "")
  assert "best ends at 2.50" in bits, "dearer points that are worse are on no line"
  by_width = page._against_compute(rows, "iid draw", "model.width")
  assert "1 ends at 0.580" in by_width and "2 ends at 0.850" in by_width


def test_exports_read_back(root):
  found = trials.index(root)
  export.write(root / "a.csv", found, {})
  with (root / "a.csv").open() as file:
    lines = list(csv.DictReader(file))
  assert [x["state"] for x in lines] == ["done"] * 8 + ["failed"]
  assert [float(x["iid draw"]) for x in lines[:3]] == SCORES[0]
  assert lines[-1]["error"] == "exit code 2: <diverged>" and lines[-1]["iid draw"] == ""
  assert [x["point.model.width"] for x in lines[::3]] == ["0", "1", "2"]
  export.write(root / "a.json", found, {"file": "mask.py"})
  content = json.loads((root / "a.json").read_text())
  assert content["sweep"] == {"file": "mask.py"} and len(content["trials"]) == 9
  assert content["points"][1]["against"]["iid draw"]["mean"] == pytest.approx(0.08)
  assert content["trials"][0]["scores"]["held-out image_mse"] == 0.4


SVG = "{http://www.w3.org/2000/svg}"


def drawn(path):
  """(words, dots as (x, y, radius), ends of lines) of a figure."""
  shapes = list(ElementTree.parse(path).iter())
  words = [x.text for x in shapes if x.tag == f"{SVG}text"]
  dots = [
    tuple(float(x.get(k)) for k in ("cx", "cy", "r"))
    for x in shapes if x.tag == f"{SVG}circle"
  ]  # fmt: skip
  return words, dots, [x for x in shapes if x.tag == f"{SVG}polyline"]


def test_results_for_a_repository(root):
  about = {
    "file": "mask.py", "preset": "tiny", "flops": 3e9, "overrides": ["--config.a=1"],
    "about": "A question?\n\n  a command", "scores": ["iid draw"],
  }  # fmt: skip
  export.write(root / "a.md", trials.index(root), about)
  text = (root / "a.md").read_text()
  line = "unijax sweep run mask.py:tiny --seeds=3 --flops=3e+09 --eval-prompts=4"
  assert f"8 of 9 trials are done; made by\n\n    {line} --config.a=1\n" in text
  assert "\n\n    a command\n" in text, "four spaces are code"
  assert "| width=1 | 3 | 10 | 1e+09 | 58.0 | 25.7 to 90.3 | +8.0 |" in text
  assert "- width=2, seed 2 (002-2): exit code 2: <diverged>" in text
  assert "(a.svg)" in text and "(a.png)" in text
  assert Picture.open(root / "a.png").size[0] > 300
  words, dots, _ = drawn(root / "a.svg")
  assert {"iid draw, %", "width", "0", "1", "2"} <= set(words)
  means = [x for x, _, radius in dots if radius > 3]
  assert len(dots) == 3 + 8 and means == sorted(means) and len(set(means)) == 3


def test_a_figure_over_compute_joins_the_best_of_each_budget(root):
  about = {"curves": "model.width", "scores": ["iid draw", "bits per byte"]}
  export.write(root / "a.md", trials.index(root), about)
  words, dots, lines = drawn(root / "a.svg")
  assert len(dots) == 2 * 3 and len(lines) == 2 * 3
  assert words.count("1.0e+09") == 2 and words.count("2.0e+09") == 2
  (low, *_), high = dots[:2], dots[2]
  assert high[0] > low[0] + 100, "twice the FLOPs lie to the right"
  assert high[1] < low[1], "a better score lies above"
