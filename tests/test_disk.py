"""Laws of files that are whole or as before."""

import threading

import pytest

from unijax import disk


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


def test_a_new_folder_is_there_with_all_of_it_or_not_at_all(tmp_path):
  place = tmp_path / "deep" / "run"
  with disk.new_folder(place) as folder:
    (folder / "file").write_text("whole")
    assert not place.exists()
  assert [p.name for p in place.parent.iterdir()] == ["run"]
  with pytest.raises(FileExistsError, match="there already"), disk.new_folder(place):
    pass
  with pytest.raises(KeyError), disk.new_folder(tmp_path / "other") as folder:
    (folder / "file").write_text("half")
    raise KeyError
  assert [p.name for p in tmp_path.iterdir()] == ["deep"]
