"""Laws of files that are whole or as before."""

import threading

import pytest

from unijax import disk
from unijax.errors import ConfigError


@pytest.mark.parametrize("how", [{}, {"shared": True}, {"lasting": True}])
def test_a_file_is_replaced_and_its_folder_made(tmp_path, how):
  path = tmp_path / "a" / "file"
  disk.write_whole(path, "ü", **how)
  assert path.read_bytes() == "ü".encode()
  disk.write_whole(path, b"\x00", **how)
  assert path.read_bytes() == b"\x00"
  assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path, shared):
  path = tmp_path / "file"
  path.write_text("before")
  with pytest.raises(ZeroDivisionError), disk.replaced(path, shared=shared) as place:
    place.write_text("half of")
    assert path.read_text() == "before" and place.exists()
    1 / 0  # noqa: B018
  assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_shared_file_is_always_one_of_those_written(tmp_path):
  path, seen = tmp_path / "file", set()
  contents = [bytes([n]) * 4096 for n in range(8)]
  writers = [
    threading.Thread(
      target=lambda c=c: [disk.write_whole(path, c, shared=True) for _ in range(20)]
    )
    for c in contents
  ]
  disk.write_whole(path, contents[0])
  for writer in writers:
    writer.start()
  while any(w.is_alive() for w in writers):
    seen.add(path.read_bytes())
  assert seen <= set(contents) and list(tmp_path.iterdir()) == [path]


PICTURES = (".png", ".jpg")


def test_a_folder_takes_the_usual_name_and_nothing_is_made(tmp_path):
  (tmp_path / "v1.2").mkdir()
  asked = lambda path, *a: disk.asked_file(f"{tmp_path}/{path}", "--out", "x.png", *a)
  for given, written in {
    "v1.2": "v1.2/x.png", "new/": "new/x.png", "new": "new/x.png", "a.JPG": "a.JPG",
    "new/a.png": "new/a.png",
  }.items():  # fmt: skip
    assert asked(given, PICTURES) == tmp_path / written
  assert asked("page") == tmp_path / "page", "no suffix is asked for"
  assert [x.name for x in tmp_path.iterdir()] == ["v1.2"]


def test_what_cannot_be_written_is_refused_with_a_way_out(tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "x.png").mkdir()
  at = lambda path: pytest.raises(ConfigError, match=f"--out={tmp_path}/{path}: .*")
  ask = lambda path: disk.asked_file(f"{tmp_path}/{path}", "--out", "x.png", PICTURES)
  for path, said in {
    "a.txt": "end it with .png, .jpg, or name a folder", "file": "is a file, and no",
    "file/deep/a.png": "is a file, and no", "": "is a folder; name a file",
  }.items():  # fmt: skip
    with at(path) as raised:
      ask(path)
    assert said in str(raised.value)
  with at("file/deep"):
    disk.asked_folder(f"{tmp_path}/file/deep", "--out")
  assert disk.asked_folder(tmp_path / "new", "--out") == tmp_path / "new"
