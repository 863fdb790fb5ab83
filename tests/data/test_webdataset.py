"""Laws of tars: random access gives what was packed, faults are named or counted."""

import io
import json
import os
import pickle
import shutil
import tarfile

import pytest
from PIL import Image as Picture

from unijax.data import webdataset
from unijax.data.document import DataError, Image, Text
from unijax.data.webdataset import WebdatasetOptions, WebdatasetSource


def png(value):
  buffer = io.BytesIO()
  Picture.new("RGB", (20, 20), (value, 0, 0)).save(buffer, "PNG")
  return buffer.getvalue()


def write_tar(path, members):
  with tarfile.open(path, "w") as tar:
    for name, content in members:
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))


def write_shards(folder, shards=2, each=3):
  for shard in range(shards):
    members = []
    for i in range(each):
      n = shard * each + i
      members += [
        (f"d/{n:04}.png", png(20 * n)),
        (f"d/{n:04}.txt", f"item {n}\n".encode()),
        (f"d/{n:04}.json", json.dumps({"words": f"json {n}"}).encode()),
      ]
    write_tar(folder / f"s-{shard:03}.tar", members)


def options(folder, pattern="s-*.tar", **changes):
  defaults = {"image_size": 8, "split": "all", "caption_first": 1.0}
  return WebdatasetOptions(path=str(folder / pattern), **{**defaults, **changes})


def contents(source):
  found = {}
  for document in (source[i] for i in range(len(source))):
    (text,) = (p.text for p in document.parts if isinstance(p, Text))
    (image,) = (p for p in document.parts if isinstance(p, Image))
    found[text] = int(image.pixels()[0, 0, 0])
  return found


def test_documents_are_what_was_packed_in_any_order(tmp_path):
  write_shards(tmp_path)
  source = WebdatasetSource(options(tmp_path))
  assert contents(source) == {f"item {n}": 20 * n for n in range(6)}
  (image,) = (p for p in source[4].parts if isinstance(p, Image))
  assert image.pixels()[0, 0, 0] == 80 and image.name == "webdataset: s-001.tar/d/0004"


def test_captions_can_be_in_json(tmp_path):
  write_shards(tmp_path)
  source = WebdatasetSource(options(tmp_path, caption="json", caption_key="words"))
  assert set(contents(source)) == {f"json {n}" for n in range(6)}


def test_ranges_name_every_file(tmp_path):
  write_shards(tmp_path, shards=3)
  names = webdataset.expand(str(tmp_path / "s-{001..002}.tar"))
  assert [os.path.basename(name) for name in names] == ["s-001.tar", "s-002.tar"]
  with pytest.raises(DataError, match="2 of 5 files are missing, first .*s-003.tar"):
    webdataset.expand(str(tmp_path / "s-{000..004}.tar"))
  with pytest.raises(DataError, match="no tar file matches"):
    WebdatasetSource(options(tmp_path, "none-*.tar"))


def test_the_index_is_built_once_and_renewed_when_a_tar_changes(tmp_path, monkeypatch):
  write_shards(tmp_path)
  kept = options(tmp_path, index=str(tmp_path / "index"))
  first = WebdatasetSource(kept)
  read = webdataset._read_index
  calls = []
  monkeypatch.setattr(webdataset, "_read_index", lambda *a: calls.append(a) or read(*a))
  again = WebdatasetSource(kept)
  assert not calls and contents(again) == contents(first)
  assert again.signature == first.signature
  write_tar(tmp_path / "s-001.tar", [("a.png", png(9)), ("a.txt", b"changed!")])
  os.utime(tmp_path / "s-001.tar", ns=(1, 1))
  changed = WebdatasetSource(kept)
  assert len(calls) == 1 and contents(changed)["changed!"] == 9
  assert changed.signature != first.signature
  for file in (tmp_path / "index").iterdir():
    file.write_text("{ cut off")
  assert contents(WebdatasetSource(kept)) == contents(changed)


def bad_shards(folder):
  write_tar(
    folder / "s-000.tar",
    [
      ("good.jpeg.png", png(1)),  # the extension is all after the first dot
      ("a.png", png(1)),
      ("a.txt", b"fine"),
      ("b.txt", b"no picture"),
      ("c.png", png(1)),
      ("c.cls", b"3"),
      ("e.png", png(1)),
      ("e.txt", b"caf\xe9"),
      ("f.png", b"junk"),
      ("f.txt", b"junk picture"),
    ],
  )
  write_tar(folder / "s-001.tar", [("g.png", png(1)), ("g.txt", b"also fine")])
  write_tar(
    folder / "s-002.tar", [("h.png", png(2)), ("h.txt", b"third"), ("i.png", png(3))]
  )
  content = (folder / "s-002.tar").read_bytes()
  (folder / "s-002.tar").write_bytes(content[: 5 * 512 + 20])  # ends inside i.png


def test_skip_counts_faults_and_keeps_the_rest(tmp_path):
  bad_shards(tmp_path)
  source = WebdatasetSource(options(tmp_path, on_error="skip"))
  assert source.skipped == {
    "missing picture": ["s-000.tar/good", "s-000.tar/b"],
    "missing caption": ["s-000.tar/c"],
    "caption is not UTF-8": ["s-000.tar/e"],
    "unreadable picture": ["s-000.tar/f"],
    "broken tar": ["s-002.tar"],
  }
  assert contents(source) == {"fine": 1, "also fine": 1, "third": 2}


def test_fail_names_the_tar_or_the_samples(tmp_path):
  bad_shards(tmp_path)
  with pytest.raises(DataError, match="s-002.tar: no complete uncompressed tar.*skip"):
    WebdatasetSource(options(tmp_path))
  with pytest.raises(
    DataError, match="4 of 6 items are bad(.|\n)*s-000.tar/b: missing"
  ):
    WebdatasetSource(options(tmp_path, "s-000.tar"))


def test_compressed_tars_are_refused(tmp_path):
  with tarfile.open(tmp_path / "s-0.tar", "w:gz") as tar:
    tar.addfile(tarfile.TarInfo("a.png"))
  with pytest.raises(DataError, match="no complete uncompressed tar"):
    WebdatasetSource(options(tmp_path))


def test_missing_json_keys_are_named(tmp_path):
  write_shards(tmp_path, shards=1)
  with pytest.raises(DataError, match="no key 'caption'"):
    WebdatasetSource(options(tmp_path, caption="json"))


def test_pickles(tmp_path):
  write_shards(tmp_path)
  source = WebdatasetSource(options(tmp_path))
  assert contents(pickle.loads(pickle.dumps(source))) == contents(source)


def test_a_tar_that_shrinks_later_is_noticed(tmp_path):
  write_shards(tmp_path)
  source = WebdatasetSource(options(tmp_path))
  (tmp_path / "s-001.tar").write_bytes(b"")
  (image,) = (p for p in source[5].parts if isinstance(p, Image))
  with pytest.raises(
    DataError, match="s-001.tar/d/0005: broken tar: it ends too early"
  ):
    image.pixels()


def test_a_copy_elsewhere_has_the_same_signature(tmp_path):
  write_shards(tmp_path)
  shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copyfile)
  a = WebdatasetSource(options(tmp_path))
  assert WebdatasetSource(options(tmp_path / "copy")).signature == a.signature
