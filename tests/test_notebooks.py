"""Every notebook runs from top to bottom, and is committed without outputs."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv("UNIJAX_NOTEBOOK_STEPS", "2")
  monkeypatch.setenv("UNIJAX_NOTEBOOK_WORKDIR", str(tmp_path / "run"))
  cells = json.loads(path.read_text())["cells"]
  names: dict = {}
  for cell in cells:
    if cell["cell_type"] == "code":
      assert not cell["outputs"], "clear outputs before committing"
      exec(compile("".join(cell["source"]), path.name, "exec"), names)
