"""Laws of files and folders that verbs are asked to write."""

import pytest

from unijax import asked
from unijax.errors import ConfigError

PICTURES = (".png", ".jpg")


def test_a_folder_takes_the_usual_name_and_nothing_is_made(tmp_path):
  (tmp_path / "v1.2").mkdir()
  ask = lambda path, *a: asked.asked_file(f"{tmp_path}/{path}", "--out", "x.png", *a)
  for given, written in {
    "v1.2": "v1.2/x.png", "new/": "new/x.png", "new": "new/x.png", "a.JPG": "a.JPG",
    "new/a.png": "new/a.png",
  }.items():  # fmt: skip
    assert ask(given, PICTURES) == tmp_path / written
  assert ask("page") == tmp_path / "page", "no suffix is asked for"
  assert [x.name for x in tmp_path.iterdir()] == ["v1.2"]


def test_what_cannot_be_written_is_refused_with_a_way_out(tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "x.png").mkdir()
  at = lambda path: pytest.raises(ConfigError, match=f"--out={tmp_path}/{path}: .*")
  ask = lambda path: asked.asked_file(f"{tmp_path}/{path}", "--out", "x.png", PICTURES)
  for path, said in {
    "a.txt": "end it with .png, .jpg, or name a folder", "file": "is a file, and no",
    "file/deep/a.png": "is a file, and no", "": "is a folder; name a file",
  }.items():  # fmt: skip
    with at(path) as raised:
      ask(path)
    assert said in str(raised.value)
  with at("file/deep"):
    asked.asked_folder(f"{tmp_path}/file/deep", "--out")
  assert asked.asked_folder(tmp_path / "new", "--out") == tmp_path / "new"
