"""Laws of a user's folder: every table reads alike, every fault is named or counted."""

import io
import json
import logging
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from unijax.data.document import DataError, Image, Text
from unijax.data.files import FolderOptions, FolderSource
from unijax.data.images import BadItem


def png(value=0, size=(40, 30)):
  buffer = io.BytesIO()
  Picture.new("RGB", size, (value, 255 - value, 0)).save(buffer, "PNG")
  return buffer.getvalue()


def write(folder, rows, table="captions.jsonl"):
  """Writes six pictures and a table of (file, caption) rows."""
  for i in range(6):
    (folder / f"p{i}.png").write_bytes(png(40 * i))
  path = folder / table
  if table.endswith(".jsonl"):
    lines = [json.dumps({"image": f, "caption": c}) for f, c in rows]
    path.write_text("\n".join(lines) + "\n")
  elif table.endswith(".parquet"):
    images, captions = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"image": images, "caption": captions}), path)
  else:
    mark = "\t" if table.endswith(".tsv") else ","
    path.write_text(
      "\n".join(mark.join(row) for row in [("image", "caption"), *rows]) + "\n"
    )
  return folder


ROWS = [(f"p{i}.png", f"picture number {i}") for i in range(6)]


def options(folder, **changes):
  defaults = {"path": str(folder), "image_size": 16, "split": "all"}
  return FolderOptions(**{**defaults, **changes})


def contents(source):
  """{(kind, caption): pixels' mean red} of all documents."""
  found = {}
  for document in (source[i] for i in range(len(source))):
    (text,) = (p.text for p in document.parts if isinstance(p, Text))
    (image,) = (p for p in document.parts if isinstance(p, Image))
    found[document.kind, text] = round(float(image.pixels()[..., 0].mean()))
  return found


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_every_table_gives_the_same_documents(tmp_path, kind):
  write(tmp_path, ROWS, f"t.{kind}")
  source = FolderSource(options(tmp_path, captions=f"t.{kind}"))
  assert len(source) == 12
  assert contents(source) == {
    (task, f"picture number {i}"): 40 * i
    for task in ("draw", "describe")
    for i in range(6)
  }


def test_columns_can_be_chosen_and_bom_and_quotes_are_read(tmp_path):
  write(tmp_path, ROWS)
  table = '\ufefffile,words,x\r\np1.png,"one, two",3\r\n\r\np2.png,"two\nlines",4\r\n'
  (tmp_path / "t.csv").write_text(table, newline="")
  source = FolderSource(
    options(tmp_path, captions="t.csv", image_column="file", caption_column="words")
  )
  assert {text for _, text in contents(source)} == {"one, two", "two\nlines"}


def test_pictures_are_lazy_and_have_the_asked_size(tmp_path):
  write(tmp_path, ROWS)
  source = FolderSource(options(tmp_path))
  document = source[0]
  (image,) = (p for p in document.parts if isinstance(p, Image))
  assert (image.height, image.width) == (16, 16) and "p0.png" in image.name
  (tmp_path / "p0.png").write_bytes(b"broken since")
  with pytest.raises(BadItem, match="folder: captions.jsonl:1 p0.png: unreadable pict"):
    image.pixels()
  (tmp_path / "p0.png").unlink()
  with pytest.raises(BadItem, match="No such file"):
    image.pixels()


def test_splits_are_disjoint_complete_and_stable_when_rows_are_added(tmp_path):
  rows = [(f"p{i % 6}.png", f"caption {i}") for i in range(12)]
  write(tmp_path, rows)
  parts = {
    split: FolderSource(options(tmp_path, split=split, held_out=0.5, caption_first=1.0))
    for split in ("train", "held_out", "all")
  }
  train, held_out, both = (
    set(contents(parts[s])) for s in ("train", "held_out", "all")
  )
  assert train and held_out and not train & held_out and train | held_out == both
  # Captions of one picture stay together, and rows put in front move nothing.
  pictures = {int(text.split()[1]) % 6 for _, text in train}
  assert not pictures & {int(text.split()[1]) % 6 for _, text in held_out}
  write(tmp_path, [("p0.png", "new 0")] + rows)
  later = FolderSource(
    options(tmp_path, held_out=0.5, split="train", caption_first=1.0)
  )
  assert set(contents(later)) - {("draw", "new 0")} == train


def test_equal_folders_have_equal_signatures(tmp_path):
  write(tmp_path, ROWS)
  a = FolderSource(options(tmp_path))
  assert FolderSource(options(tmp_path)).signature == a.signature
  assert FolderSource(options(tmp_path, image_size=8)).signature != a.signature
  copy = pickle.loads(pickle.dumps(a))
  assert copy.signature == a.signature and contents(copy) == contents(a)
  shutil.copytree(tmp_path, tmp_path / "copy")
  assert FolderSource(options(tmp_path / "copy")).signature == a.signature
  (tmp_path / "copy" / "p3.png").write_bytes(png(1, size=(50, 50)))
  assert FolderSource(options(tmp_path / "copy")).signature != a.signature
  write(tmp_path, [*ROWS[:5], ("p5.png", "other words")])
  assert FolderSource(options(tmp_path)).signature != a.signature


def bad_table(folder):
  """Two good rows and one of each fault."""
  write(folder, ROWS)
  (folder / "cut.png").write_bytes(png()[:60])
  (folder / "text.png").write_bytes(b"hello")
  (folder / "huge.png").write_bytes(png(size=(300, 300)))
  (folder / "notes.txt").write_text("hello")
  lines = [
    b'{"image": "p0.png", "caption": "good"}',
    b'{"image": "cut.png", "caption": "a"}',
    b'{"image": "text.png", "caption": "a"}',
    b'{"image": "huge.png", "caption": "a"}',
    b'{"image": "p1.png", "caption": "  "}',
    b'{"image": "p1.png", "caption": "' + b"long " * 30 + b'"}',
    b'{"image": "p1.png", "caption": "caf\xe9"}',
    b'{"image": "p1.png", "caption": "half \\ud83d"}',
    b'{"image": "gone.png", "caption": "a"}',
    b'{"image": "notes.txt", "caption": "a"}',
    b'{"image": "p1.png"}',
    b'{"image": "p1.png", "caption": 7}',
    b"no json",
    b"[1]",
    b'{"image": "p2.png", "caption": "also good"}',
  ]
  (folder / "captions.jsonl").write_bytes(b"\n".join(lines))
  return options(folder, max_pixels=50_000, max_caption_bytes=100, on_error="skip")


REASONS = {
  "unreadable picture": ["captions.jsonl:3 text.png"],
  "broken picture": ["captions.jsonl:2 cut.png"],
  "too large a picture": ["captions.jsonl:4 huge.png"],
  "empty caption": ["captions.jsonl:5 p1.png"],
  "caption too long": ["captions.jsonl:6 p1.png"],
  "caption is not UTF-8": ["captions.jsonl:7 p1.png", "captions.jsonl:8 p1.png"],
  "missing file": ["captions.jsonl:9 gone.png"],
  "unknown extension": ["captions.jsonl:10 notes.txt"],
  "missing value": ["captions.jsonl:11"],
  "wrong type": ["captions.jsonl:12"],
  "unreadable row": ["captions.jsonl:13", "captions.jsonl:14"],
}


def test_skip_leaves_out_every_fault_and_counts_it(tmp_path, caplog):
  with caplog.at_level(logging.WARNING, "unijax"):
    source = FolderSource(bad_table(tmp_path))
  assert source.skipped == REASONS
  assert {text for _, text in contents(source)} == {"good", "also good"}
  assert sum(len(names) for names in source.skipped.values()) + source.count == 15
  assert (
    "left out 1 of 15 items: missing file (captions.jsonl:9 gone.png)" in caplog.text
  )


def test_fail_names_the_first_faults_at_once(tmp_path):
  bad = bad_table(tmp_path)
  with pytest.raises(DataError) as error:
    FolderSource(options(tmp_path, max_caption_bytes=100))
  message = str(error.value)
  assert message.startswith("folder: 10 of 15 items are bad:")
  assert "captions.jsonl:5 p1.png: empty caption" in message
  assert "and 5 more" in message and "on_error='skip'" in message
  del bad


def test_fail_finds_a_broken_picture_when_it_is_read(tmp_path):
  write(tmp_path, [*ROWS, ("cut.png", "cut")])
  (tmp_path / "cut.png").write_bytes(png()[:60])
  source = FolderSource(options(tmp_path, caption_first=1.0))
  (image,) = (p for p in source[6].parts if isinstance(p, Image))
  with pytest.raises(BadItem, match="cut.png: broken picture.*on_error='skip'"):
    image.pixels()


@pytest.mark.parametrize(
  "table, content, message",
  [
    ("t.xlsx", b"", r"unknown extension '.xlsx'.*\.jsonl, \.csv"),
    ("none.csv", None, "none.csv: no such file"),
    (
      "t.csv",
      b"file,caption\na,b\n",
      "no column 'image'; it has 'file', 'caption'; set",
    ),
    ("t.csv", b"", "it has none"),
    ("t.parquet", b"PAR1 nothing", "no parquet file"),
  ],
)
def test_unusable_tables_are_named(tmp_path, table, content, message):
  write(tmp_path, ROWS)
  if content is not None:
    (tmp_path / table).write_bytes(content)
  with pytest.raises(DataError, match=message):
    FolderSource(options(tmp_path, captions=table, on_error="skip"))


def test_parquet_faults(tmp_path):
  write(tmp_path, ROWS)
  names = pa.array([b"p0.png", b"p1.png", b"p2.png"], pa.binary())
  words = pa.array([b"fine", b"caf\xe9", None], pa.binary())
  # An invalid string can only be made by a cast that does not look.
  table = pa.table(
    {"image": names.view(pa.string()), "caption": words.view(pa.string())}
  )
  pq.write_table(table, tmp_path / "t.parquet")
  source = FolderSource(options(tmp_path, captions="t.parquet", on_error="skip"))
  assert source.skipped == {
    "caption is not UTF-8": ["t.parquet:2 p1.png"],
    "missing value": ["t.parquet:3"],
  }
  pq.write_table(pa.table({"image": names, "caption": words}), tmp_path / "b.parquet")
  with pytest.raises(DataError, match="column 'image' is binary, not text"):
    FolderSource(options(tmp_path, captions="b.parquet"))


def test_an_empty_split_says_what_to_change(tmp_path):
  write(tmp_path, ROWS)
  with pytest.raises(DataError, match="no items in the held_out split: 6 in all.*0.0"):
    FolderSource(options(tmp_path, split="held_out", held_out=0.0))


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(DataError, match="no folder .*nowhere"):
    FolderSource(options(tmp_path / "nowhere"))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"on_error": "ignore"}, "on_error"),
    ({"split": "test"}, "split"),
    ({"image_size": 0}, "image_size"),
    ({"max_pixels": 0}, "max_pixels"),
  ],
)
def test_bad_options_are_named(changes, message):
  with pytest.raises(DataError, match=message):
    FolderOptions(**changes)


def test_documents_do_not_depend_on_the_order_of_access(tmp_path):
  source = FolderSource(bad_table(tmp_path))
  order = np.random.default_rng(0).permutation(len(source))
  forward = {i: source[i].kind for i in range(len(source))}
  assert {int(i): source[int(i)].kind for i in order} == forward
  assert [source[i].id for i in range(len(source))] == list(range(len(source)))
