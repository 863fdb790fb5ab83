"""Laws of pictures inside parquet: random access gives each row its own picture."""

import io
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from unijax.data.document import DataError, Image, Text
from unijax.data.parquet import ParquetOptions, ParquetSource


def png(value):
  buffer = io.BytesIO()
  Picture.new("RGB", (20, 16), (value, 0, 0)).save(buffer, "PNG")
  return buffer.getvalue()


def write(path, first, count, struct=False):
  pictures = [png(10 * n) for n in range(first, first + count)]
  images = [{"bytes": p, "path": "x"} for p in pictures] if struct else pictures
  captions = [f"row {n}" for n in range(first, first + count)]
  table = pa.table({"image": images, "caption": captions})
  pq.write_table(table, path, row_group_size=4)


def options(path, **changes):
  defaults = {"path": str(path), "image_size": 8, "split": "all", "caption_first": 1.0}
  return ParquetOptions(**{**defaults, **changes})


def pair(document):
  (text,) = (p.text for p in document.parts if isinstance(p, Text))
  (image,) = (p for p in document.parts if isinstance(p, Image))
  return text, int(image.pixels()[0, 0, 0])


@pytest.mark.parametrize("struct", [False, True])
def test_rows_of_several_files_in_any_order_and_thread(tmp_path, struct):
  write(tmp_path / "a.parquet", 0, 10, struct)
  write(tmp_path / "b.parquet", 10, 7, struct)
  source = ParquetSource(options(tmp_path / "*.parquet", cached_groups=2))
  order = [16, 0, 9, 10, 3, 4, 12, 1, 16, 8]
  with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda i: pair(source[i]), order))
  assert found == [(f"row {i}", 10 * i) for i in order]
  assert len(source) == 17 and len(source._kept) == 2
  copy = pickle.loads(pickle.dumps(source))
  assert pair(copy[5]) == ("row 5", 50) and copy.signature == source.signature


def test_faults_are_counted(tmp_path):
  table = pa.table(
    {
      "image": pa.array([png(1), None, b"junk", png(2)], pa.binary()),
      "caption": ["good", "no picture", "broken", None],
    }
  )
  pq.write_table(table, tmp_path / "t.parquet")
  source = ParquetSource(options(tmp_path / "t.parquet", on_error="skip"))
  assert source.skipped == {
    "missing picture": ["t.parquet:2"],
    "unreadable picture": ["t.parquet:3"],
    "missing value": ["t.parquet:4"],
  }
  assert len(source) == 1
  with pytest.raises(
    DataError, match="1 of 4 items are bad(.|\n)*t.parquet:4: missing"
  ):
    ParquetSource(options(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"image_column": "picture"}, "no column 'picture'; it has 'image', 'caption'"),
    ({"caption_column": "text"}, "no column 'text'"),
    ({"image_column": "caption"}, "'caption' is string, and not the bytes"),
    ({"caption_column": "image"}, "'image' is binary, not text"),
    ({"cached_groups": 0}, "cached_groups"),
  ],
)
def test_wrong_columns_are_named(tmp_path, changes, message):
  write(tmp_path / "a.parquet", 0, 2)
  with pytest.raises(DataError, match=message):
    ParquetSource(options(tmp_path / "a.parquet", **changes))


def test_missing_and_damaged_files_are_named(tmp_path):
  with pytest.raises(DataError, match="no file matches"):
    ParquetSource(options(tmp_path / "a.parquet"))
  (tmp_path / "a.parquet").write_bytes(b"PAR1")
  with pytest.raises(DataError, match="a.parquet: no parquet file"):
    ParquetSource(options(tmp_path / "a.parquet"))
  write(tmp_path / "b.parquet", 0, 2)
  source = ParquetSource(options(tmp_path / "b.parquet"))
  (tmp_path / "b.parquet").unlink()
  with pytest.raises(DataError, match="b.parquet:1: unreadable file"):
    pair(source[0])


def test_a_copy_elsewhere_has_the_same_signature(tmp_path):
  write(tmp_path / "a.parquet", 0, 6)
  shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copyfile)
  a = ParquetSource(options(tmp_path / "*.parquet"))
  assert (
    ParquetSource(options(tmp_path / "copy" / "*.parquet")).signature == a.signature
  )
