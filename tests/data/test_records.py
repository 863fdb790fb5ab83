"""Laws of prepared data: what is read is what was written, whatever happens between."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unijax.data import prepare as prepare_lib
from unijax.data.document import DataError, Document, Image, Text, Turn
from unijax.data.emoji import EmojiOptions, EmojiSource
from unijax.data.images import BadItem
from unijax.data.prepare import prepare
from unijax.data.records import RecordsOptions, RecordsSource

ROOT = pathlib.Path(__file__).parents[2]


class Numbered:
  """A source of n documents in which some cannot be read."""

  name = "numbered"

  def __init__(self, n, bad=()):
    self.n, self.bad = n, frozenset(bad)
    self.signature = f"numbered-{n}-{sorted(self.bad)}"

  def __len__(self):
    return self.n

  def __getitem__(self, index):
    def load():
      if index in self.bad:
        raise BadItem(f"item {index}", "broken picture", "test", "mend it")
      return np.full((4, 6, 3), index % 256, np.uint8)

    parts = (
      Turn("user"),
      Text(f"text {index} ä"),
      Image(load, 4, 6, True, f"i{index}"),
    )
    return Document(parts, id=index, kind="ask")


def plain(document):
  """A document as comparable values, pixels and all."""
  parts = []
  for part in document.parts:
    if isinstance(part, Image):
      pixels = part.pixels()
      parts.append((pixels.shape, pixels.tobytes(), part.context))
    else:
      parts.append(part)
  return document.kind, parts


def read_all(path, **options):
  source = RecordsSource(
    RecordsOptions(**{"path": str(path), "split": "all", **options})
  )
  return [plain(source[i]) for i in range(len(source))]


def files_of(path):
  return {p.name: p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("shard", [1000, 7, 20])
def test_what_is_read_is_what_was_written(tmp_path, shard):
  source = EmojiSource(EmojiOptions(limit=10, shift=1))
  info = prepare(source, str(tmp_path / "out"), shard_documents=shard)
  assert read_all(tmp_path / "out") == [plain(source[i]) for i in range(20)]
  assert info["documents"] == info["images"] == 20
  assert len(info["shards"]) == -(-20 // shard)
  assert info["image_sizes"] == [[32, 32]] and info["skipped"] == {}


def test_shards_do_not_change_the_documents(tmp_path):
  for shard in (4, 100):
    prepare(Numbered(10), str(tmp_path / str(shard)), shard_documents=shard)
  assert read_all(tmp_path / "4") == read_all(tmp_path / "100")


def test_lengths_stand_beside_the_documents(tmp_path):
  prepare(Numbered(300), str(tmp_path / "out"), shard_documents=128)
  with np.load(tmp_path / "out" / "lengths.npz") as lengths:
    texts = [len(f"text {i} ä".encode()) for i in range(300)]
    assert lengths["text_bytes"].tolist() == texts
    assert lengths["images"].tolist() == [1] * 300
    assert lengths["sizes"].tolist() == [[4, 6]] * 300
    # Pictures repeat with period 256 here, and so do the groups.
    assert len(set(lengths["group"].tolist())) == 256


def test_equal_sources_give_equal_files(tmp_path):
  for name in ("a", "b"):
    prepare(Numbered(50), str(tmp_path / name), shard_documents=20)
  assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_groups_stay_on_one_side_of_the_split(tmp_path):
  source = EmojiSource(EmojiOptions(limit=97))
  prepare(source, str(tmp_path / "out"))
  captions = {}
  for split in ("train", "held_out"):
    part = RecordsSource(
      RecordsOptions(path=str(tmp_path / "out"), split=split, held_out=0.3)
    )
    texts = [
      p.text for i in range(len(part)) for p in part[i].parts if isinstance(p, Text)
    ]
    captions[split] = texts
    assert (
      part.signature != RecordsSource(RecordsOptions(str(tmp_path / "out"))).signature
    )
  assert not set(captions["train"]) & set(captions["held_out"])
  assert len(captions["train"]) + len(captions["held_out"]) == 194
  assert 30 < len(captions["held_out"]) < 90


def test_skip_counts_and_fail_stops(tmp_path):
  source = Numbered(10, bad=[0, 3, 8, 9])
  with pytest.raises(BadItem, match="item 0: broken picture"):
    prepare(source, str(tmp_path / "a"))
  assert not (tmp_path / "a").exists()
  info = prepare(source, str(tmp_path / "b"), on_error="skip", shard_documents=3)
  assert info["skipped"]["broken picture"]["count"] == 4
  assert "document 3: item 3" in info["skipped"]["broken picture"]["first"][1]
  assert info["documents"] + 4 == len(source)
  good = [plain(source[i]) for i in (1, 2, 4, 5, 6, 7)]
  assert read_all(tmp_path / "b") == good
  with pytest.raises(DataError, match="not one of 2 documents"):
    prepare(Numbered(2, bad=[0, 1]), str(tmp_path / "c"), on_error="skip")


def test_what_the_source_left_out_is_counted_too(tmp_path):
  source = Numbered(3)
  source.skipped = {"missing file": ["x.png"]}
  info = prepare(source, str(tmp_path / "out"))
  assert info["skipped"] == {"missing file": {"count": 1, "first": ["x.png"]}}


def test_an_existing_folder_is_not_touched(tmp_path):
  (tmp_path / "out").mkdir()
  with pytest.raises(DataError, match="out exists; remove it"):
    prepare(Numbered(3), str(tmp_path / "out"))
  assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_run_continues_and_ends_with_the_same_bytes(tmp_path):
  prepare(
    EmojiSource(EmojiOptions(limit=40)), str(tmp_path / "whole"), shard_documents=9
  )
  code = (
    "import os, sys; from unijax.data.prepare import prepare; from unijax.data import"
    " prepare as p; from unijax.data.emoji import EmojiOptions, EmojiSource;"
    "source = EmojiSource(EmojiOptions(limit=40)); get = EmojiSource.__getitem__;"
    "EmojiSource.__getitem__ = lambda s, i: os._exit(9) if i == 40 else get(s, i);"
    f"prepare(source, {str(tmp_path / 'out')!r}, shard_documents=9)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
  assert not (tmp_path / "out").exists()
  source = EmojiSource(EmojiOptions(limit=40))
  read = []
  original = EmojiSource.__getitem__
  source_class = type("Counting", (EmojiSource,), {})
  source_class.__getitem__ = lambda s, i: read.append(i) or original(s, i)
  source.__class__ = source_class
  prepare(source, str(tmp_path / "out"), shard_documents=9)
  assert read == list(range(36, 80))  # four whole shards were kept
  assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_partial_folder_of_other_content_is_refused(tmp_path):
  with pytest.raises(BadItem):
    prepare(Numbered(10, bad=[9]), str(tmp_path / "out"), shard_documents=4)
  with pytest.raises(DataError, match="another source or other options; remove it"):
    prepare(Numbered(11), str(tmp_path / "out"), shard_documents=4)
  (tmp_path / "x.partial").mkdir()
  with pytest.raises(DataError, match="remove it to start anew"):
    prepare(Numbered(11), str(tmp_path / "x"))


def test_what_stopped_at_a_bad_document_goes_on_without_it(tmp_path):
  """Before the first whole file of records, or behind some."""
  bad = Numbered(10, bad=[9])
  for files in (4, 64):
    out, other = tmp_path / f"out{files}", tmp_path / f"other{files}"
    with pytest.raises(BadItem):
      prepare(bad, str(out), shard_documents=files)
    prepare(bad, str(out), on_error="skip", shard_documents=files)
    prepare(bad, str(other), on_error="skip", shard_documents=files)
    assert files_of(out) == files_of(other)


def test_what_was_left_out_stays_so_only_where_it_may(tmp_path):
  """A mended source is begun anew where no file was whole."""
  out = str(tmp_path / "out")
  with pytest.raises(BadItem):
    prepare(Numbered(10, bad=[2]), out)
  assert prepare(Numbered(11), out)["documents"] == 11
  with pytest.raises(DataError, match="not one of"):
    prepare(Numbered(2, bad=[0, 1]), f"{out}2", on_error="skip", shard_documents=1)
  with pytest.raises(DataError, match="left out of .* go on with on_error='skip'"):
    prepare(Numbered(2, bad=[0, 1]), f"{out}2", shard_documents=1)


def test_threads_and_pickles_read_the_same(tmp_path):
  prepare(Numbered(60), str(tmp_path / "out"), shard_documents=16)
  source = RecordsSource(RecordsOptions(path=str(tmp_path / "out"), split="all"))
  with ThreadPoolExecutor(4) as pool:
    threaded = list(pool.map(lambda i: plain(source[i]), range(60)))
  copy = pickle.loads(pickle.dumps(source))
  assert threaded == [plain(copy[i]) for i in range(60)]
  assert copy.signature == source.signature
  assert source[-1].id == 59
  with pytest.raises(IndexError):
    source[60]


def test_pictures_of_another_size_are_refused(tmp_path):
  prepare(Numbered(3), str(tmp_path / "out"))
  with pytest.raises(DataError, match="4x6 pixels, not 32x32"):
    read_all(tmp_path / "out", image_size=32)


def test_num_documents_takes_the_first(tmp_path):
  prepare(Numbered(10), str(tmp_path / "out"))
  assert read_all(tmp_path / "out", num_documents=4) == read_all(tmp_path / "out")[:4]
  for wrong in (0, 11):
    with pytest.raises(DataError, match=f"num_documents={wrong}"):
      read_all(tmp_path / "out", num_documents=wrong)


def test_prepared_data_can_be_prepared_again(tmp_path):
  prepare(Numbered(10), str(tmp_path / "a"))
  source = RecordsSource(RecordsOptions(path=str(tmp_path / "a"), split="all"))
  prepare(source, str(tmp_path / "b"))
  assert read_all(tmp_path / "b") == read_all(tmp_path / "a")


def test_info_says_what_it_was_made_from(tmp_path):
  prepare(
    Numbered(3), str(tmp_path / "out"), described={"kind": "x"}, attribution="by y"
  )
  info = json.loads((tmp_path / "out" / "info.json").read_text())
  assert info["source"] == {
    "name": "numbered",
    "signature": Numbered(3).signature,
    "kind": "x",
  }
  assert info["attribution"] == "by y"
  assert [p.name for p in tmp_path.iterdir()] == ["out"]
  assert {p.name for p in (tmp_path / "out").iterdir()} == {
    "documents-00000.array_record",
    "info.json",
    "lengths.npz",
  }


def test_progress_reaches_the_end(tmp_path):
  calls = []
  prepare(Numbered(600), str(tmp_path / "o"), progress=lambda *a: calls.append(a))
  assert calls == [(256, 600), (512, 600), (600, 600)]


def test_shard_records_are_what_resuming_reads():
  shard = prepare_lib._Shard("f", 1, 2, "s", 3, [4], [[[5, 6]]], [7], {"r": ["n"]})
  assert (
    prepare_lib._Shard(**json.loads(json.dumps(dataclasses.asdict(shard)))) == shard
  )
