"""Every notebook runs from top to bottom in IPython, and is committed without outputs."""

import json
import pathlib
import re

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = ("image/png", "image/gif")
SHOWS = {"quickstart": 6, "inside_the_model": 5, "your_data": 3, "tpu_colab": 0}


def sources(path: pathlib.Path, kind: str) -> list[str]:
  cells = json.loads(path.read_text())["cells"]
  return ["".join(c["source"]) for c in cells if c["cell_type"] == kind]


@pytest.fixture
def shell(monkeypatch):
  """An IPython of its own, as a kernel has it."""
  monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
  InteractiveShell.clear_instance()
  yield InteractiveShell.instance()
  InteractiveShell.clear_instance()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, monkeypatch, shell):
  """With what it shows: a cell whose picture cannot be rendered fails."""
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv("UNIJAX_NOTEBOOK_STEPS", "2")
  monkeypatch.setenv("UNIJAX_NOTEBOOK_WORKDIR", str(tmp_path / "run"))
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
