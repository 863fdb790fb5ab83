"""Every notebook runs from top to bottom in IPython, and is committed without outputs."""

import json
import pathlib
import re

import matplotlib.pyplot as plt
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib_inline.backend_inline import configure_inline_support
from PIL import Image

from tests.sweep import made
from unijax.sweep import trials

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = ("image/png", "image/gif")
SHOWS = {
  "reading_an_ablation": 5,
  "quickstart": 7,
  "inside_the_model": 5,
  "your_data": 3,
  "tpu_colab": 0,
}


def sweep(root: pathlib.Path) -> None:
  """A study of three points and two seeds, as its trials leave it."""
  for number in range(3):
    for seed in range(2):
      trial = made.trial(number, seed)
      trials.write(root, trial)
      scores = {"iid draw": 0.1 * number + 0.01 * seed * (number + 1), "iid ask": 0.5}
      drawn = {"drawn": "drawn.png", "words": ["a", "b"]} if number else {}
      made.done(root, trial, scores, **drawn)
      Image.new("RGB", (64, 32), "red").save(root / trial.name / "drawn.png")
      lines = [{"step": t, "train/text_nll": 2 / (t + 1)} for t in range(9)]
      log = "".join(json.dumps(line) + "\n" for line in lines)
      (root / trial.name / "metrics.jsonl").write_text(log)


def sources(path: pathlib.Path, kind: str) -> list[str]:
  cells = json.loads(path.read_text())["cells"]
  return ["".join(c["source"]) for c in cells if c["cell_type"] == kind]


@pytest.fixture(scope="module")
def shell():
  """An IPython that shows figures as a kernel does; it can be told so only once."""
  made = InteractiveShell.instance()
  plt.switch_backend("module://matplotlib_inline.backend_inline")
  configure_inline_support(made, "inline")
  plt.ion()  # or figures wait for `plt.show()`
  yield made
  InteractiveShell.clear_instance()


SLOW = ("inside_the_model", "tpu_colab", "your_data")  # a third of a minute each


@pytest.mark.parametrize(
  "path",
  [
    pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else (), id=p.stem)
    for p in NOTEBOOKS
  ],
)
def test_runs(path, tmp_path, monkeypatch, shell):
  """With what it shows: a cell whose picture cannot be rendered fails."""
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv("UNIJAX_NOTEBOOK_STEPS", "2")
  monkeypatch.setenv("UNIJAX_NOTEBOOK_WORKDIR", str(tmp_path / "run"))
  if path.stem == "reading_an_ablation":
    sweep(tmp_path / "run")
  shell.reset()  # of names that another notebook left
  shown = 0
  for source in sources(path, "code"):
    with capture_output() as captured:
      done = shell.run_cell(source)
      done.raise_error()
      # What stands last in a cell is shown by itself; the kernel formats it like this.
      last, _ = shell.display_formatter.format(done.result)
    said = captured.stdout + captured.stderr
    assert "Traceback" not in said, said
    outputs = [last, *(out.data for out in captured.outputs)]
    shown += sum(any(kind in data for kind in PICTURES) for data in outputs)
  assert shown == SHOWS[path.stem]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_clean_and_opens_in_colab(path):
  for cell in json.loads(path.read_text())["cells"]:
    assert not cell.get("outputs"), "clear outputs before committing"
    assert cell.get("execution_count") is None
  title = sources(path, "markdown")[0]
  home = re.search(
    r'Repository = "https://github.com/(.*)"', (ROOT / "pyproject.toml").read_text()
  )
  address = f"https://colab.research.google.com/github/{home[1]}/blob/main/notebooks/"
  assert f"({address}{path.name})" in title
